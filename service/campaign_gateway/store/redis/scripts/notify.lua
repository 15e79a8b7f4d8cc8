-- Notes names that others are to look at, for a few seconds, and returns all that are noted.
--
-- KEYS[1]  the names, by the moment until which they stand
-- ARGV[1]  now, in seconds
-- ARGV[2]  seconds for which a name stands
-- ARGV[3]  and so on: names; there may be none
--
-- Returns the names.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
for number = 3, #ARGV do
  redis.call('ZADD', KEYS[1], ARGV[1] + ARGV[2], ARGV[number])
  redis.call('PEXPIRE', KEYS[1], ARGV[2] * 1000)
end
return redis.call('ZRANGE', KEYS[1], 0, -1)
