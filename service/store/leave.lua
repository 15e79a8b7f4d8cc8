-- Gives up the lead in filling a key, and tells those who wait for it.
--
-- KEYS[1]  the lease's key
-- ARGV[1]  the replica that led
-- ARGV[2]  the bus
-- ARGV[3]  the message
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
