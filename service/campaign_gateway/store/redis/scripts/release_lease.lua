-- Gives up the lease on filling a key, and wakes those who wait for it.
--
-- KEYS[1]  the lease's key
-- KEYS[2]  the number of the bus's last message
-- ARGV[1]  the lease, as acquire_lease.lua wrote it
-- ARGV[2]  the bus
-- ARGV[3]  the key as replicas name it
-- ARGV[4]  the replica that held it
if value_at(KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
publish(ARGV[2], 'left', ARGV[4], KEYS[2], ARGV[3])
