-- Changes a stream's index, unless somebody else has changed it since it was read.
--
-- KEYS[1]  the head: 16 bytes of epoch, 16 digits of number, then the encoded head
-- KEYS[2]  the rows, by campaign
-- KEYS[3]  the rows' order, by the number of the change that wrote them
-- KEYS[4]  the number of the bus's last message
-- ARGV[1]  the epoch that was read; empty for none
-- ARGV[2]  the number that was read
-- ARGV[3]  the epoch from now on: another one where there was none
-- ARGV[4]  the number from now on
-- ARGV[5]  the encoded head
-- ARGV[6]  milliseconds to keep it all
-- ARGV[7]  the bus, on which all replicas learn of it
-- ARGV[8]  the replica that changes it
-- ARGV[9]  the stream
-- ARGV[10...]  campaign and encoded row, again and again
local held = redis.call('GETRANGE', KEYS[1], 0, 31)
if string.sub(held, 1, 16) ~= ARGV[1] or (tonumber(string.sub(held, 17, 32)) or 0) ~= tonumber(ARGV[2]) then
  return 0
end
if held == '' then
  redis.call('DEL', KEYS[2], KEYS[3])
end
redis.call('SET', KEYS[1], ARGV[3] .. string.format('%016d', ARGV[4]) .. ARGV[5], 'PX', ARGV[6])
for index = 10, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[index], ARGV[index + 1])
  redis.call('ZADD', KEYS[3], ARGV[4], ARGV[index])
end
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('PEXPIRE', KEYS[3], ARGV[6])
redis.call('PUBLISH', ARGV[7], 'swept ' .. ARGV[8] .. ' ' .. redis.call('INCR', KEYS[4]) .. ' ' .. ARGV[9])
return 1
