-- Stores an entry, unless it was invalidated since the fill looked it up, or a read that began later is stored already.
--
-- KEYS[1]  the entry's key
-- KEYS[2]  the number of the bus's last message
-- KEYS[3]  the fence of the entry's group
-- ARGV[1]  the fence that the fill's look-up saw
-- ARGV[2]  earliest moment at which the fill's read can have begun, microseconds of the clock that all replicas share
-- ARGV[3]  latest such moment; ARGV[3] - ARGV[2] is what the replica does not know of this clock
-- ARGV[4]  milliseconds to keep it
-- ARGV[5]  the entry
-- ARGV[6]  the bus, on which all replicas learn of it
-- ARGV[7]  the replica that stores
-- ARGV[8]  the key as replicas name it
-- ARGV[9]  milliseconds to remember a fence
-- ARGV[10] the number of the group's fence that the look-up saw
-- ARGV[11] the moment, on the same clock
--
-- A value is a head of 65 bytes and the entry. The head: 16 digits each of fence, the latest begin, the group's number
-- when it was stored, and the moment of the last invalidation that matters; then 'w' or 'p' while the entry has to be
-- validated after a write or a purge, else '-'. Sixteen digits of microseconds fit in the 53 bits of a Lua number until the
-- year 2255.

-- Readings of the clock differ by less than a second (policy.stored).
local LEAVE = 1000000
local head = head_at(KEYS[1])
local fence, begun = number_at(head, 1), number_at(head, 17)
local number = number_of(group_at(KEYS[3], ARGV[11]))
if fence ~= tonumber(ARGV[1]) or number ~= tonumber(ARGV[10]) then
  return 'fenced'
end
-- What passes the group's fence was read later than what was stored before it: clocks need not agree on that. Nothing has
-- begun in the future, so that says nothing.
if begun >= tonumber(ARGV[2]) and begun <= tonumber(ARGV[11]) + LEAVE and number_at(head, 33) >= number then
  return 'older'
end
local keep = tonumber(ARGV[4])
if fence > 0 then
  -- The fence stands in the same value: it must outlive every fill from before the invalidation, also under an entry
  -- that is of no use after seconds.
  keep = math.max(keep, tonumber(ARGV[9]))
end
local moment = string.sub(head, 49, 64)
if not string.match(moment, '^%d+$') or string.len(moment) < 16 or string.sub(head, 65, 65) == 'p' then
  moment = string.rep('0', 16)
end
local written = string.format('%016.0f', fence) .. ARGV[3] .. string.format('%016.0f', number) .. moment .. '-'
redis.call('SET', KEYS[1], written .. ARGV[5], 'PX', string.format('%.0f', keep))
publish(ARGV[6], 'changed', ARGV[7], KEYS[2], ARGV[8])
return 'stored'
