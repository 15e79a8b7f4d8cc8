-- Acquires the lease on filling a key, unless another replica holds it, and returns what is stored by now.
--
-- KEYS[1]  the entry's key
-- KEYS[2]  the lease's key
-- KEYS[3]  the fence of the entry's group
-- ARGV[1]  the replica that asks
-- ARGV[2]  milliseconds that the lease lasts unless it is renewed
-- ARGV[3]  the head of the value that the replica has looked up (see put.lua); empty for none
--
-- Returns whether it is held now, the group's fence, and the value if it has another head by now: a put writes a later begin,
-- and an invalidation another fence, so that one head stands before one body only.
--
-- A lease names the replica and the numbers of both fences when it was taken: one from before an invalidation is nobody's,
-- since what its holder brings will not be stored.
-- First a write that takes no memory, and changes nothing: see swap.lua.
redis.call('PERSIST', KEYS[3])
local head = redis.call('GETRANGE', KEYS[1], 0, 64)
local group = redis.call('GET', KEYS[3])
if not group then
  -- Made before there is anything to stand before: where it is gone, it was lost, and what is older counts as purged.
  local time = redis.call('TIME')
  local moment = string.format('%016.0f', time[1] * 1000000 + time[2])
  group = string.rep('0', 32) .. moment .. moment
  redis.call('SET', KEYS[3], group)
end
local number = math.max(tonumber(string.sub(group, 1, 16)) or 0, tonumber(string.sub(group, 33, 48)) or 0)
local fences = string.format(':%.0f:%.0f', tonumber(string.sub(head, 1, 16)) or 0, number)
local holder = redis.call('GET', KEYS[2])
local is_held = 0
if not holder or holder == ARGV[1] .. fences or string.sub(holder, -string.len(fences)) ~= fences then
  redis.call('SET', KEYS[2], ARGV[1] .. fences, 'PX', ARGV[2])
  is_held = 1
end
if head == ARGV[3] then
  return {is_held, group}
end
return {is_held, group, redis.call('GET', KEYS[1]) or ''}
