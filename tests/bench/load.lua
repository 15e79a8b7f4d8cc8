-- Reads of random campaigns, each with the client's key and a request id of its own.
-- Arguments: a file of request heads, one a line, each up to the request id's value. A `~` in it is the id, too.

local heads, count, turn = {}, 0, 10000000 -- ids of one length, as callers' are
local has_more = false

function init(arguments)
   for line in io.lines(arguments[1]) do
      count = count + 1
      heads[count] = line:gsub("|", "\r\n")
      has_more = has_more or line:find("~", 1, true)
   end
   math.randomseed(1)
end

function request()
   turn = turn + 1
   local head = heads[math.random(count)]
   if has_more then
      head = head:gsub("~", turn)
   end
   return head .. turn .. "\r\n\r\n"
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "seconds": %.6f, "bad_status": %d, "broken": %d, "p50": %d, "p99": %d}\n',
      summary.requests, summary.duration / 1e6, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      latency:percentile(50), latency:percentile(99)
   ))
end
