-- Acquires the lease on filling a key, unless another replica holds it, and returns what is stored by now.
--
-- KEYS[1]  the entry's key
-- KEYS[2]  the lease's key
-- KEYS[3]  the fence of the entry's group
-- ARGV[1]  the replica that asks
-- ARGV[2]  milliseconds that the lease lasts unless it is renewed
-- ARGV[3]  the head of the value that the replica has looked up (see put.lua); empty for none
-- ARGV[4]  the moment, in microseconds of the clock that all replicas share
--
-- Returns whether it is held now, the group's fence, and the value if it has another head by now: a put writes a later begin,
-- and an invalidation another fence, so that one head stands before one body only.
--
-- A lease names the replica and the numbers of both fences when it was taken: one from before an invalidation is nobody's,
-- since what its holder brings will not be stored.
-- First a write that takes no memory, and changes nothing: see swap.lua.
redis.call('PERSIST', KEYS[3])
local head = head_at(KEYS[1])
local group = group_at(KEYS[3], ARGV[4])
if group == '' then
  -- Made before there is anything to stand before: where it is gone, it was lost, and what is older counts as purged.
  group = string.rep('0', 32) .. ARGV[4] .. ARGV[4]
  redis.call('SET', KEYS[3], group)
end
local fences = string.format(':%.0f:%.0f', number_at(head, 1), number_of(group))
local holder = value_at(KEYS[2])
local left = redis.call('PTTL', KEYS[2])
-- One that lasts for longer than any of ours is nobody's either.
local is_lease = left >= 0 and left <= tonumber(ARGV[2]) and string.sub(holder, -string.len(fences)) == fences
local is_held = 0
if not is_lease or holder == ARGV[1] .. fences then
  redis.call('SET', KEYS[2], ARGV[1] .. fences, 'PX', ARGV[2])
  is_held = 1
end
if head == ARGV[3] then
  return {is_held, group}
end
return {is_held, group, value_at(KEYS[1])}
