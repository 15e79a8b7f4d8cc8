-- Returns what has changed in a stream's index.
--
-- KEYS[1]  the head: 16 bytes of epoch, 16 digits of number, then the encoded head
-- KEYS[2]  the rows, by campaign
-- KEYS[3]  the rows' order, by the number of the change that wrote them
-- ARGV[1]  the epoch that the replica has seen; empty for none
-- ARGV[2]  the number that it has seen
--
-- Returns nothing where nothing has changed; else the epoch, the encoded head, and the changed rows.
local held = redis.call('GET', KEYS[1])
if not held then
  if ARGV[1] == '' then
    return false
  end
  return {'', ''}
end
local epoch, number = string.sub(held, 1, 16), tonumber(string.sub(held, 17, 32))
local seen = tonumber(ARGV[2])
if epoch ~= ARGV[1] or not number or number < seen then
  -- Another index, or this one from before its latest changes, which a failover has lost.
  seen = -1
elseif number == seen then
  return false
end
local answer = {epoch, string.sub(held, 33)}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. seen, '+inf')) do
  answer[#answer + 1] = id
  answer[#answer + 1] = redis.call('HGET', KEYS[2], id) or ''
end
return answer
