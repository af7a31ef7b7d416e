-- One request over and over, for `load.py`. Arguments: the file of its body, its header lines.
local whole

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  local headers = {}
  for at = 2, #arguments do
    local name, value = arguments[at]:match("^([^:]+):%s*(.*)$")
    headers[name] = value
  end
  whole = wrk.format("POST", nil, headers, file:read("*a"))
  file:close()
end

function request()
  return whole
end

function done(summary, latency)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  print(string.format(
    'figures {"requests": %d, "microseconds": %d, "refused": %d, "broken": %d, "p50": %d, "p99": %d}',
    summary.requests, summary.duration, errors.status, broken,
    latency:percentile(50), latency:percentile(99)
  ))
end
