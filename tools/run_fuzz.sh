#!/usr/bin/env bash
# run_fuzz.sh FOLDER SECONDS: runs every fuzz target of FOLDER for SECONDS each, as many at a time as
# there are cores. Fails when one had a finding, and says where its input lies.
set -euo pipefail
folder=$1 seconds=$2
cd "$(dirname "$0")/.."
export UBSAN_OPTIONS=print_stacktrace=1

fuzz_one() {
  local target=$1 seconds=$2 name corpus log
  name=$(basename "$target")
  corpus=build/corpus/$name
  log=build/corpus/$name.log
  mkdir -p "$corpus"
  local seeds=()
  [[ -d fuzz/corpus/$name ]] && seeds+=("fuzz/corpus/$name")
  if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3000 -max_len=65536 -print_final_stats=1 \
       -artifact_prefix="$corpus/" "$corpus" "${seeds[@]}" >"$log" 2>&1; then
    echo "$name: $(grep -o 'number_of_executed_units: [0-9]*' "$log" | grep -o '[0-9]*$') inputs, no finding"
  else
    tail -40 "$log"
    echo "$name: finding, input kept in $corpus"
    return 1
  fi
}
export -f fuzz_one

count=$(ls "$folder"/*_fuzz | wc -l)
if ls "$folder"/*_fuzz | xargs -P "$(nproc)" -I{} bash -c 'fuzz_one {} '"$seconds"; then
  echo "$count passed, 0 failed"
else
  echo "fuzzing had findings"
  exit 1
fi
