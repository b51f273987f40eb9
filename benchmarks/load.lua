-- Arguments: the method, the body and the body's media type. Prints the result as one line of JSON, with times in microseconds.
function init(args)
  wrk.method, wrk.body = args[1], args[2]
  wrk.headers["Content-Type"] = args[3]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration":%d,"p50":%d,"p99":%d,"not_2xx":%d,"broken":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
