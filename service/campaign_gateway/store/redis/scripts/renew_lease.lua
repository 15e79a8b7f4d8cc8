-- Keeps the lease on filling a key, unless it has ended.
--
-- KEYS[1]  the lease's key
-- ARGV[1]  the lease, as acquire_lease.lua wrote it
-- ARGV[2]  milliseconds that the lease lasts from now
if value_at(KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
