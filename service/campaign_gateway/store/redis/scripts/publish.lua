-- Tells all replicas something about a key.
--
-- KEYS[1]  the number of the bus's last message
-- ARGV[1]  the bus
-- ARGV[2]  what is told
-- ARGV[3]  the replica that tells it
-- ARGV[4]  the key as replicas name it
redis.call('PUBLISH', ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. redis.call('INCR', KEYS[1]) .. ' ' .. ARGV[4])
