-- wrk's script: sends the bodies in turn, formatted once, and prints one JSON object at the end.
-- Arguments: the content type, then the files that hold the bodies. The key, if any, is in the environment.
local requests, turn = {}, 0

function init(args)
  wrk.method = "POST"
  wrk.headers["content-type"] = args[1]
  local key = os.getenv("BENCH_KEY")
  if key then wrk.headers["x-api-key"] = key end
  for i = 2, #args do
    local file = assert(io.open(args[i], "rb"))
    requests[#requests + 1] = wrk.format(nil, nil, nil, file:read("*a"))
    file:close()
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"seconds": %f, "answers": %d, "refused": %d, "broken": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.duration / 1e6, summary.requests, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
