-- One request per token, in turn. From the environment: WRK_PATH, WRK_BODY, WRK_TOKENS (a file, one token a line) and WRK_USERS,
-- how many of its lines to use.
local path, body, limit = os.getenv("WRK_PATH"), os.getenv("WRK_BODY"), tonumber(os.getenv("WRK_USERS"))
local requests, turn = {}, 0

function init()
  for token in io.lines(os.getenv("WRK_TOKENS")) do
    if #requests == limit then break end
    local headers = { ["host"] = "127.0.0.1", ["content-type"] = "application/json", ["authorization"] = "Bearer " .. token }
    requests[#requests + 1] = wrk.format("POST", path, headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  local report = '\n{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"bytes":%d,"bad_status":%d,"socket_errors":%d}\n'
  io.write(string.format(report,
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), summary.bytes,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
