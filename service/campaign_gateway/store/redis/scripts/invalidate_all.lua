-- Raises the fence of all answers to an operation that lie in one partition: see invalidate.lua.
--
-- KEYS[1]  the group's fence
-- KEYS[2]  the number of the bus's last message
-- ARGV[1]  the bus; empty to publish nothing
-- ARGV[2]  the replica that invalidates
-- ARGV[3]  the group as replicas name it
-- ARGV[4]  the cause: 'write' or 'purge'
-- ARGV[5]  the moment, in microseconds of the clock that all replicas share
--
-- A fence is 16 digits each: number and microseconds of the last write, number and microseconds of the last purge. It is
-- kept for ever, since entries that were stored before it may be; there is one per stream and operation.
local held = group_at(KEYS[1], ARGV[5])
if held == '' then
  held = string.rep('0', 64)
end
-- The time serves as a number that is not given again, should this key be lost.
local number = math.max(tonumber(ARGV[5]), number_of(held) + 1)
local last = string.format('%016.0f', number) .. ARGV[5]
if ARGV[4] == 'write' then
  held = last .. string.sub(held, 33, 64)
else
  held = string.sub(held, 1, 32) .. last
end
-- First a write that takes no memory: see swap.lua.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], held)
if ARGV[1] ~= '' then
  publish(ARGV[1], ARGV[4], ARGV[2], KEYS[2], ARGV[3])
end
