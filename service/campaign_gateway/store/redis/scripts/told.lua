-- Returns what a log has said last.
--
-- KEYS[1]  what it has said last, by campaign
-- ARGV[1...]  names
--
-- Returns a value for each, empty where there is none.
local answer = {}
for index, name in ipairs(ARGV) do
  local held = redis.pcall('HGET', KEYS[1], name)
  answer[index] = type(held) == 'string' and held or ''
end
return answer
