#!/usr/bin/env bash
# run_fuzz.sh FOLDER SECONDS: runs every fuzz target of FOLDER for SECONDS each, stops at a finding.
set -euo pipefail
folder=$1 seconds=$2
cd "$(dirname "$0")/.."
export UBSAN_OPTIONS=print_stacktrace=1
passed=0
for target in "$folder"/*_fuzz; do
  name=$(basename "$target")
  corpus=build/corpus/$name
  mkdir -p "$corpus"
  seeds=()
  [[ -d fuzz/corpus/$name ]] && seeds+=("fuzz/corpus/$name")
  log=$(mktemp)
  if ! "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3000 -max_len=65536 -print_final_stats=1 \
       -artifact_prefix="$corpus/" "$corpus" "${seeds[@]}" >"$log" 2>&1; then
    tail -40 "$log"
    echo "$name: finding, input kept in $corpus"
    exit 1
  fi
  echo "$name: $(grep -o 'number_of_executed_units: [0-9]*' "$log" | grep -o '[0-9]*$') inputs, no finding"
  rm -f "$log"
  passed=$((passed + 1))
done
echo "$passed passed, 0 failed"
