-- Raises a key's fence: no fill that looked up before now will be stored, and what is stored has to be validated.
--
-- KEYS[1]  the entry's key
-- KEYS[2]  the number of the bus's last message
-- ARGV[1]  milliseconds to remember the fence: longer than any fill can be under way
-- ARGV[2]  the bus, on which all replicas learn of it
-- ARGV[3]  the replica that invalidates
-- ARGV[4]  the key as replicas name it
-- ARGV[5]  the cause: 'write' or 'purge'
-- ARGV[6]  the moment, in microseconds of the clock that all replicas share
--
-- See put.lua for the form of a value.
-- First a write that takes no memory: a server that is full then takes the others too (see swap.lua).
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[1])))
local head = head_at(KEYS[1])
local fence = string.format('%016.0f', number_at(head, 1) + 1)
local moment = ARGV[6]
local cause = 'p'
if ARGV[5] == 'write' or string.sub(head, 65, 65) == 'w' then
  cause = 'w'
end
-- No begin: whatever passes the new fence was read later than what stands here, and clocks need not agree on that.
local begun = string.rep('0', 16)
if string.len(head) < 65 then
  redis.call('SET', KEYS[1], fence .. begun .. begun .. moment .. cause, 'PX', ARGV[1])
else
  -- The entry stays, to fall back on.
  redis.call('SETRANGE', KEYS[1], 0, fence .. begun .. string.format('%016.0f', number_at(head, 33)) .. moment .. cause)
end
publish(ARGV[2], ARGV[5], ARGV[3], KEYS[2], ARGV[4])
