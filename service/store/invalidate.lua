-- Raises a key's fence and forgets its entry: no fill that looked up before now will be stored.
--
-- KEYS[1]  the entry's key
-- KEYS[2]  the number of the bus's last message
-- ARGV[1]  milliseconds to remember the fence: longer than any fill can be under way
-- ARGV[2]  the bus, where all replicas hear of it
-- ARGV[3]  the replica that invalidates
-- ARGV[4]  the key as replicas name it
local fence = tonumber(redis.call('GETRANGE', KEYS[1], 0, 15)) or 0
redis.call('SET', KEYS[1], string.format('%016.0f%016d', fence + 1, 0), 'PX', ARGV[1])
redis.call('PUBLISH', ARGV[2], 'invalidated ' .. ARGV[3] .. ' ' .. redis.call('INCR', KEYS[2]) .. ' ' .. ARGV[4])
return fence + 1
