#!/bin/bash
# run_streams.sh ROUTER_BINARY [STREAMS [RATE [SECONDS]]]: event streams through a router and beside it.
# Prints the latency of events without and with the router (their difference is what it adds), its
# memory per stream and its CPU per event. ROUTER_BINARY is started as `ROUTER_BINARY router ...`.
set -e
binary=$1 streams=${2:-2000} rate=${3:-50} seconds=${4:-20} here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d); trap 'kill $worker $router 2>/dev/null; rm -rf "$tmp"' EXIT
ulimit -n "$(ulimit -Hn)"
g++ -O2 -std=c++20 -o "$tmp/sse_streams" "$here/sse_streams.cpp"
"$tmp/sse_streams" worker 32000 32001 "$rate" 1000000 & worker=$!
"$binary" router --pd-disaggregation --prefill http://127.0.0.1:32000 --decode http://127.0.0.1:32001 \
  --host 127.0.0.1 --port 32002 --prometheus-port -1 --log-level error & router=$!
until curl -fs http://127.0.0.1:32002/readiness >/dev/null; do sleep 0.1; done
rss() { awk '/VmRSS/{print $2}' /proc/$router/status; }
cpu() { awk '{print $14+$15}' /proc/$router/stat; }
echo -n "direct  "; "$tmp/sse_streams" client 32001 "$streams" "$seconds"
before=$(rss); cpu0=$(cpu)
"$tmp/sse_streams" client 32002 "$streams" "$seconds" > "$tmp/out" & client=$!
sleep $((seconds * 3 / 4)); after=$(rss)
wait $client; cpu1=$(cpu)
echo -n "router  "; cat "$tmp/out"
echo "memory_per_stream_kb $(((after - before) / streams)) cpu_s $(python3 -c "print(($cpu1-$cpu0)/100)")"
