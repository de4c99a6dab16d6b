-- Sends the requests of a file one after the other, over and over. Argument after "--": the file.
-- In the file stands before each request its length and a line feed.
-- The last line printed is a JSON object; times are in microseconds.
local requests, sent = {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for line in function() return file:read("*l") end do
    requests[#requests + 1] = file:read(tonumber(line))
  end
  file:close()
end

function request()
  sent = sent % #requests + 1
  return requests[sent]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "us": %d, "p50": %d, "p99": %d, "bad": %d, "broken": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
