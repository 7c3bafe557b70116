#!/bin/bash
# run_streams.sh BATON [STREAMS [RATE [SECONDS [THREADS [ids|none [tls]]]]]]: event streams of RATE events/s each, in turn without
# anything between, through a proxy that only copies bytes (the floor) and through `BATON router`.
#
# Prints for each the way of an event (from written by the worker to arrived at the client's socket) and how late
# worker and client themselves were: when those are late, the machine has too few cores for the load, and the way
# says little. The proxy's and the router's lines have their CPU per event and their memory per stream. `ids`: the
# workers announce token ids as Baton's servers do, and the router records them. `tls`: instead of the above, through
# two routers one behind the other, with plain HTTP and with TLS between them; the first is a client of it, the second
# a server.
set -e
baton=$1 streams=${2:-2000} rate=${3:-50} seconds=${4:-20} threads=${5:-$(nproc)} ids=${6/none/} tls=$7
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'kill $worker $proxy $router $front 2>/dev/null; rm -rf "$tmp"' EXIT
ulimit -n "$(ulimit -Hn)"
g++ -O2 -std=c++20 -o "$tmp/sse_streams" "$here/sse_streams.cpp"
g++ -O2 -std=c++20 -pthread -o "$tmp/plain_proxy" "$here/plain_proxy.cpp"

"$tmp/sse_streams" worker 32000 32001 "$rate" $ids & worker=$!
"$tmp/plain_proxy" 32003 32000 32001 "$threads" & proxy=$!

# router PORT ARGUMENTS...: its pid in $started, once it is ready
router() {
  local port=$1; shift
  "$baton" router --host 127.0.0.1 --port "$port" --prometheus-port -1 --threads "$threads" --log-level error "$@" & started=$!
  for _ in $(seq 100); do
    if curl -fsk -m 2 "http://127.0.0.1:$port/readiness" >/dev/null || curl -fsk -m 2 "https://127.0.0.1:$port/readiness" >/dev/null; then return; fi
    sleep 0.1
  done
  echo "run_streams: the router on port $port does not come up" >&2
  exit 1
}
workers=(--pd-disaggregation --prefill http://127.0.0.1:32000 --decode http://127.0.0.1:32001)

rss() { awk '/VmRSS/{print $2}' "/proc/$1/status"; }
cpu_ms() { awk '{print ($14 + $15) * 10}' "/proc/$1/stat"; }

# through NAME PORT [PID]...
through() {
  local name=$1 port=$2 pid
  local -A before after cpu0 cpu1
  shift 2
  echo "$name: $streams streams x $rate events/s"
  for pid; do before[$pid]=$(rss "$pid"); done
  "$tmp/sse_streams" client "$port" "$streams" "$seconds" > "$tmp/out" & local client=$!
  # The client measures from 3/8 of its time on.
  sleep "$(awk "BEGIN{print $seconds * 3 / 8}")"
  for pid; do cpu0[$pid]=$(cpu_ms "$pid"); done
  sleep "$(awk "BEGIN{print $seconds * 9 / 16}")"
  for pid; do cpu1[$pid]=$(cpu_ms "$pid"); after[$pid]=$(rss "$pid"); done
  wait $client
  cat "$tmp/out"
  for pid; do
    awk -v out="$(head -1 "$tmp/out")" "BEGIN{
      split(out, word, \" \"); time = $seconds * 9 / 16; ms = ${cpu1[$pid]} - ${cpu0[$pid]}
      printf \"  CPU %.1f us/event (%.2f cores), memory %.1f KB/stream\n\", ms * 1000 / (word[6] * time), ms / 1000 / time,
        (${after[$pid]} - ${before[$pid]}) / $streams}"
  done
  sleep 1
}

if [[ $tls != tls ]]; then
  router 32002 "${workers[@]}"; router=$started
  through direct 32001
  through "plain proxy" 32003 $proxy
  through router 32002 $router
  exit
fi
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$tmp/key" -out "$tmp/cert" -days 2 \
  -subj /CN=run_streams -addext subjectAltName=IP:127.0.0.1 2>/dev/null
for scheme in http https; do
  secured=()
  [[ $scheme == http ]] || secured=(--tls-cert-path "$tmp/cert" --tls-key-path "$tmp/key")
  router 32002 "${workers[@]}" "${secured[@]}"; router=$started
  router 32004 --worker-urls $scheme://127.0.0.1:32002 --ca-cert-paths "$tmp/cert"; front=$started
  through "two routers, $scheme between them" 32004 $front $router
  kill $front $router
  wait $front $router || true
done
