#!/bin/bash
# run_streams.sh BATON [STREAMS [RATE [SECONDS [THREADS [ids]]]]]: event streams of RATE events/s each, in turn without
# anything between, through a proxy that only copies bytes (the floor) and through `BATON router`.
#
# Prints for each the way of an event (from written by the worker to arrived at the client's socket) and how late
# worker and client themselves were: when those are late, the machine has too few cores for the load, and the way
# says little. The proxy's and the router's lines have their CPU per event and their memory per stream. `ids`: the
# workers announce token ids as Baton's servers do, and the router records them.
set -e
baton=$1 streams=${2:-2000} rate=${3:-50} seconds=${4:-20} threads=${5:-$(nproc)} ids=$6
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'kill $worker $proxy $router 2>/dev/null; rm -rf "$tmp"' EXIT
ulimit -n "$(ulimit -Hn)"
g++ -O2 -std=c++20 -o "$tmp/sse_streams" "$here/sse_streams.cpp"
g++ -O2 -std=c++20 -pthread -o "$tmp/plain_proxy" "$here/plain_proxy.cpp"

"$tmp/sse_streams" worker 32000 32001 "$rate" $ids & worker=$!
"$tmp/plain_proxy" 32003 32000 32001 "$threads" & proxy=$!
"$baton" router --pd-disaggregation --prefill http://127.0.0.1:32000 --decode http://127.0.0.1:32001 \
  --host 127.0.0.1 --port 32002 --prometheus-port -1 --threads "$threads" --log-level error & router=$!
for _ in $(seq 100); do
  if curl -fs -m 2 http://127.0.0.1:32002/readiness >/dev/null; then break; fi
  sleep 0.1
done
curl -fs -m 2 http://127.0.0.1:32002/readiness >/dev/null || { echo "run_streams: the router does not come up" >&2; exit 1; }

rss() { awk '/VmRSS/{print $2}' "/proc/$1/status"; }
cpu_ms() { awk '{print ($14 + $15) * 10}' "/proc/$1/stat"; }

# through NAME PORT [PID]
through() {
  local before after cpu0 cpu1 idle
  echo "$1: $streams streams x $rate events/s"
  [[ -z $3 ]] || before=$(rss "$3")
  "$tmp/sse_streams" client "$2" "$streams" "$seconds" > "$tmp/out" & local client=$!
  # The client measures from 3/8 of its time on.
  sleep "$(awk "BEGIN{print $seconds * 3 / 8}")"
  [[ -z $3 ]] || cpu0=$(cpu_ms "$3")
  sleep "$(awk "BEGIN{print $seconds * 9 / 16}")"
  [[ -z $3 ]] || { cpu1=$(cpu_ms "$3"); after=$(rss "$3"); }
  wait $client
  cat "$tmp/out"
  [[ -z $3 ]] || awk -v out="$(head -1 "$tmp/out")" "BEGIN{
    split(out, word, \" \"); time = $seconds * 9 / 16; ms = $cpu1 - $cpu0
    printf \"  CPU %.1f us/event (%.2f cores), memory %.1f KB/stream\n\", ms * 1000 / (word[6] * time), ms / 1000 / time,
      ($after - $before) / $streams}"
  sleep 1
}
through direct 32001
through "plain proxy" 32003 $proxy
through router 32002 $router
