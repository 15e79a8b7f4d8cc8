-- The last beat of a replica: releases its leases.
--
-- KEYS[1]  the replicas
-- KEYS[2]  the leases: see beat.lua
-- ARGV[1]  the replica
-- ARGV[2...]  the streams whose leases it holds
redis.call('ZREM', KEYS[1], ARGV[1])
for index = 2, #ARGV do
  local leader = string.match(redis.call('HGET', KEYS[2], ARGV[index]) or '', '^(%S+) ')
  if leader == ARGV[1] then
    redis.call('HDEL', KEYS[2], ARGV[index])
  end
end
