-- One beat of a replica: shows that it lives, publishes what its callers read, and acquires or renews its leases on
-- streams in use. A lease that is not renewed lapses.
--
-- KEYS[1]  the replicas, by the seconds at which they were last seen
-- KEYS[2]  streams whose indexes were changed, by the number of the announcement; numbers rise
-- KEYS[3]  the leases: stream to replica, and the milliseconds at which its lease ends
-- KEYS[4]  notes of use for the leaders: stream to lines of campaign, reads, and when it was last read
-- KEYS[5...]  the campaigns in use of each stream that has notes below, in the same order, by when they were last read
-- ARGV[1]  the replica
-- ARGV[2]  seconds after which a replica that is not seen is forgotten
-- ARGV[3]  the last announcement that it has seen
-- ARGV[4]  milliseconds to remember announcements
-- ARGV[5]  milliseconds that a lease lasts from now; 0 for a replica that acquires none
-- ARGV[6]  seconds for which a campaign is in use once it was read
-- ARGV[7]  the longest text of notes that is kept for a leader
-- ARGV[8]  how many indexes it announces
-- ARGV[9...]  these streams; then of each stream in use its name, how many notes follow, and of each note three
--
-- Returns whether earlier beats of the replica were forgotten, or others' announcements that it has seen (1); the number
-- of the last announcement; the replicas and when they were last seen; streams announced since, by others; and of each
-- stream in use, in the order asked, the notes for its leader if this replica is the one, else nothing.
local time = redis.call('TIME')
local seconds = time[1] + time[2] / 1000000
local me = ARGV[1]

-- First a write that takes no memory: see swap.lua.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', seconds - ARGV[2]))
local forgotten = redis.call('ZADD', KEYS[1], string.format('%.6f', seconds), me)
redis.call('EXPIRE', KEYS[1], ARGV[2])

local last = tonumber(redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]) or 0
local seen = tonumber(ARGV[3])
if forgotten == 1 or last < seen then
  -- Those of a server that has lost them begin again, so nobody knows how many were missed.
  forgotten, seen = 1, 0
end
local announced = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. seen, '+inf')
local index = 9
for _ = 1, tonumber(ARGV[8]) do
  last = last + 1
  redis.call('ZADD', KEYS[2], last, ARGV[index])
  index = index + 1
end
if ARGV[8] ~= '0' then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end

local lease = tonumber(ARGV[5])
local now = math.floor(seconds * 1000)
local horizon = string.format('%.6f', seconds - ARGV[6])
local noted = 4
local answers = {}
local count = 0
while index < #ARGV do
  local stream, notes = ARGV[index], tonumber(ARGV[index + 1])
  index = index + 2
  local lines = ''
  if notes > 0 then
    local scored, rows = {}, {}
    for _ = 1, notes do
      scored[#scored + 1] = ARGV[index + 2]
      scored[#scored + 1] = ARGV[index]
      rows[#rows + 1] = ARGV[index] .. ' ' .. ARGV[index + 1] .. ' ' .. ARGV[index + 2] .. '\n'
      index = index + 3
    end
    lines = table.concat(rows)
    -- A key of another type stops no beat: there is no more for the next leader to begin with then.
    noted = noted + 1
    for first = 1, #scored, 1000 do
      redis.pcall('ZADD', KEYS[noted], unpack(scored, first, math.min(first + 999, #scored)))
    end
    redis.pcall('ZREMRANGEBYSCORE', KEYS[noted], '-inf', '(' .. horizon)
    redis.pcall('EXPIRE', KEYS[noted], ARGV[6])
  end
  local leader, ends = string.match(redis.call('HGET', KEYS[3], stream) or '', '^(%S+) (%d+)$')
  -- One that ends later than any of ours is nobody's.
  local is_free = not leader or leader == me or tonumber(ends) <= now or (lease > 0 and tonumber(ends) > now + lease)
  count = count + 1
  if lease > 0 and is_free then
    redis.call('HSET', KEYS[3], stream, me .. ' ' .. string.format('%.0f', now + lease))
    answers[count] = redis.call('HGET', KEYS[4], stream) or ''
    if answers[count] ~= '' then
      redis.call('HDEL', KEYS[4], stream)
    end
  else
    answers[count] = false
    if lines ~= '' then
      local held = redis.call('HGET', KEYS[4], stream) or ''
      if #held + #lines <= tonumber(ARGV[7]) then
        redis.call('HSET', KEYS[4], stream, held .. lines)
      end
    end
  end
end
if count > 0 then
  -- Longer than any lease; a lease that has lapsed is of no use, nor are notes that no leader fetches.
  redis.call('EXPIRE', KEYS[3], 60)
  redis.call('EXPIRE', KEYS[4], 60)
end
return {forgotten, last, redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), announced, answers}
