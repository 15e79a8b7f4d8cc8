-- Stands before each script: what Redis holds may be anything, for others may write to it.

-- The largest whole number of which a Lua number, and so all of ours, is exact.
local MOST = 9007199254740991
-- What is that many microseconds ahead of the clock that all replicas share is no time that anything was done at.
local AHEAD = 60000000

-- The value at a key; empty where there is none, or one of another type.
local function value_at(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value or ''
end

-- The head of the entry at a key (see put.lua); empty in the same way.
local function head_at(key)
  local head = redis.pcall('GETRANGE', key, 0, 64)
  return type(head) == 'string' and head or ''
end

-- The sixteen digits at a place of a text, as a number; 0 where there are none.
local function number_at(text, place)
  local digits = string.match(string.sub(text, place, place + 15), '^%d+$')
  local number = digits and tonumber(digits) or 0
  return number <= MOST and number or 0
end

-- The fence of a group (see invalidate_all.lua); empty where there is none, or one that no script of ours has written by now.
local function group_at(key, now)
  local group = value_at(key)
  local latest = tonumber(now) + AHEAD
  if string.len(group) ~= 64 or string.find(group, '%D') then
    return ''
  end
  for place = 1, 49, 16 do
    local number = tonumber(string.sub(group, place, place + 15))
    if number > latest then
      return ''
    end
  end
  return group
end

-- The number that a group's fence stands at.
local function number_of(group)
  return math.max(number_at(group, 1), number_at(group, 33))
end

-- Publishes a message with the next number, which is at `sequence`. Where that has become something else, or a number that Lua
-- does not write out, numbers begin again: every replica then knows that it has missed some.
local function publish(channel, kind, replica, sequence, key)
  local number = redis.pcall('INCR', sequence)
  if type(number) ~= 'number' or number < 1 or number > 99999999999999 then
    redis.call('SET', sequence, '1')
    number = 1
  end
  redis.call('PUBLISH', channel, kind .. ' ' .. replica .. ' ' .. number .. ' ' .. key)
end


-- A log of changes is a stream of entries, and beside it what it has said last: of each campaign, and of itself under '#'. Both
-- change together, and only if what was said before is what the one who adds to it has read.
--
-- From ARGV[first] on: milliseconds to keep the log, and how many entries; the number of what is said; of each its name, its
-- value as it was read, empty for none, and its new value; the number of new entries, and these.

-- Whether what was said before stands. ARGV[first] is the number of what is said.
local function told_stands(told, first)
  for place = first + 1, first + 3 * tonumber(ARGV[first]), 3 do
    local held = redis.pcall('HGET', told, ARGV[place])
    if (type(held) == 'string' and held or '') ~= ARGV[place + 1] then
      return false
    end
  end
  return true
end

-- Adds to the log. Returns the place in ARGV behind its part.
local function append(log, told, first)
  local keep, most, said = ARGV[first], ARGV[first + 1], tonumber(ARGV[first + 2])
  local place = first + 3
  if said > 0 and redis.call('TYPE', told).ok ~= 'hash' then
    redis.call('DEL', told)
  end
  for _ = 1, said do
    redis.call('HSET', told, ARGV[place], ARGV[place + 2])
    place = place + 3
  end
  local count = tonumber(ARGV[place])
  if count > 0 then
    if redis.call('TYPE', log).ok ~= 'stream' then
      redis.call('DEL', log)
    end
    -- Each entry names the one before it: whoever reads knows what was lost, to age, to room or to a failover.
    local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
    local before = newest and newest[1] or '0-0'
    for index = place + 1, place + count do
      before = redis.call('XADD', log, 'MAXLEN', '~', most, '*', 'before', before, 'change', ARGV[index])
    end
    local time = redis.call('TIME')
    redis.pcall('XTRIM', log, 'MINID', '~', string.format('%.0f', math.max(0, time[1] * 1000 - keep)))
  end
  redis.call('PEXPIRE', log, keep)
  redis.call('PEXPIRE', told, keep)
  return place + count + 1
end
