-- Changes a stream's index, and adds to its log what has changed in it, unless somebody else has changed either meanwhile.
--
-- KEYS[1]  the head: 16 bytes of epoch, 16 digits of number, then the encoded head
-- KEYS[2]  the rows, by campaign
-- KEYS[3]  the rows' order, by the number of the change that wrote them
-- KEYS[4]  the number of the bus's last message
-- KEYS[5]  the log
-- KEYS[6]  what it has said last
-- ARGV[1]  the epoch and the number that were read, 32 bytes; empty for none
-- ARGV[2]  the epoch from now on: another one where there was none, or where what stands there is no index
-- ARGV[3]  the number from now on
-- ARGV[4]  the sealed head
-- ARGV[5]  milliseconds to keep it all
-- ARGV[6]  the bus, on which all replicas learn of it
-- ARGV[7]  the replica that changes it
-- ARGV[8]  the stream
-- ARGV[9...]  what is added to the log, see `append`; then campaign and sealed row, again and again
--
-- Returns 1; 0 where somebody else has changed the index; 2 where the log has said something else meanwhile.
local held = string.sub(value_at(KEYS[1]), 1, 32)
if held ~= ARGV[1] then
  return 0
end
if not told_stands(KEYS[6], 11) then
  return 2
end
if string.sub(held, 1, 16) ~= ARGV[2] then
  redis.call('DEL', KEYS[2], KEYS[3])
end
redis.call('SET', KEYS[1], ARGV[2] .. string.format('%016d', ARGV[3]) .. ARGV[4], 'PX', ARGV[5])
for index = append(KEYS[5], KEYS[6], 9), #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[index], ARGV[index + 1])
  redis.call('ZADD', KEYS[3], ARGV[3], ARGV[index])
end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
publish(ARGV[6], 'swept', ARGV[7], KEYS[4], ARGV[8])
return 1
