-- Returns what has changed in a stream's index.
--
-- KEYS[1]  the head: 16 bytes of epoch, 16 digits of number, then the encoded head
-- KEYS[2]  the rows, by campaign
-- KEYS[3]  the rows' order, by the number of the change that wrote them
-- ARGV[1]  the epoch that the replica has seen; empty for none
-- ARGV[2]  the number that it has seen
--
-- Returns nothing where nothing has changed; else the first 32 bytes of what stands there, its sealed head, and the changed rows.
local held = value_at(KEYS[1])
if held == '' then
  if ARGV[1] == '' then
    return false
  end
  return {'', ''}
end
local number, seen = number_at(held, 17), tonumber(ARGV[2])
if string.sub(held, 1, 16) ~= ARGV[1] or number < seen then
  -- Another index, or this one from before its latest changes, which a failover has lost.
  seen = -1
elseif number == seen then
  return false
end
local answer = {string.sub(held, 1, 32), string.sub(held, 33)}
local changed = redis.pcall('ZRANGEBYSCORE', KEYS[3], '(' .. seen, '+inf')
for _, id in ipairs(changed) do
  answer[#answer + 1] = id
  local row = redis.pcall('HGET', KEYS[2], id)
  answer[#answer + 1] = type(row) == 'string' and row or ''
end
return answer
