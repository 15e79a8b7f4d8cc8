-- Raises keys' fences: no fill that looked up before now will be stored, and what is stored has to be validated.
--
-- KEYS[1]  the number of the bus's last message
-- KEYS[2...]  the entries' keys
-- ARGV[1]  milliseconds to remember the fences: longer than any fill can be under way
-- ARGV[2]  the bus, on which all replicas learn of it by one message; empty to publish nothing
-- ARGV[3]  the replica that invalidates
-- ARGV[4]  what the message says of: the keys as replicas name them, one a line
-- ARGV[5]  the cause: 'write' or 'purge'
-- ARGV[6]  the moment, in microseconds of the clock that all replicas share
--
-- See put.lua for the form of a value.
-- First a write that takes no memory: a server that is full then takes the others too (see swap.lua).
redis.call('PERSIST', KEYS[1])
local moment = ARGV[6]
-- No begin: whatever passes the new fence was read later than what stands here, and clocks need not agree on that.
local begun = string.rep('0', 16)
for index = 2, #KEYS do
  local key = KEYS[index]
  local head = head_at(key)
  local fence = string.format('%016.0f', number_at(head, 1) + 1)
  local cause = 'p'
  if ARGV[5] == 'write' or string.sub(head, 65, 65) == 'w' then
    cause = 'w'
  end
  if string.len(head) < 65 then
    redis.call('SET', key, fence .. begun .. begun .. moment .. cause, 'PX', ARGV[1])
  else
    -- The entry stays, to fall back on.
    redis.call('SETRANGE', key, 0, fence .. begun .. string.format('%016.0f', number_at(head, 33)) .. moment .. cause)
    if redis.call('PTTL', key) < tonumber(ARGV[1]) then
      redis.call('PEXPIRE', key, ARGV[1])
    end
  end
end
if ARGV[2] ~= '' then
  publish(ARGV[2], ARGV[5], ARGV[3], KEYS[1], ARGV[4])
end
