#!/usr/bin/env bash
# sanitize.sh [asan|tsan ...]: ASan+UBSan and TSan runs of the parts where threads and outside bytes meet. TSan: of the parts with
# threads of their own, and of whole processes under load, router and HTTP among them. The rest, which takes minutes when
# instrumented, is left to `make asan` and `make tsan`.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A parts=(
  [asan]="api http tokenizer model transfer disagg engine server router bench"
  [tsan]="common transfer disagg engine"
)
# ASan: libfabric 1.17's provider net (transfer fabric native) leaks a few hundred bytes of its own.
# TSan: these have one thread, but for EngineModelTest, which computes for minutes; its threads, the compute team's among them,
# run a tiny model in tests/e2e/test_threads.py.
declare -A skipped=(
  [asan]="*/TcpNative*:*/native:*HostileTemplate.EndsWithAnError/3:*IsNotQuadratic:*SmolLm2*"
  [tsan]="SchedulerTest.*:SamplerTest.*:RadixCache*:Models/EngineModelTest.*:Simulation.*:Memory/Rails.*:PagePlan.*:Ways/ReadFabricTest.*:Ways/ReadHostileTest.*"
)
export TSAN_OPTIONS="second_deadlock_stack=1:history_size=4:suppressions=$PWD/ci/tsan.supp"

# The tests of transfer wait more than they compute, for minutes in one row: three processes share them. The soak, which has to get
# its faults in within seconds, follows alone.
run_transfer() {
  local shard pids=() failed=0
  for shard in 0 1 2; do
    GTEST_FILTER="$GTEST_FILTER:FaultSoak.*" GTEST_TOTAL_SHARDS=3 GTEST_SHARD_INDEX=$shard \
      build/tsan/baton_transfer_test --gtest_brief=1 >"build/tsan/transfer-$shard.log" 2>&1 &
    pids+=($!)
  done
  for shard in 0 1 2; do
    wait "${pids[shard]}" && continue
    failed=1
    cat "build/tsan/transfer-$shard.log"
  done
  ((failed)) || GTEST_FILTER="FaultSoak.*" build/tsan/baton_transfer_test --gtest_brief=1
  return $failed
}

tools/setup.sh --clang
presets=("$@")
((${#presets[@]})) || presets=(asan tsan)
for preset in "${presets[@]}"; do
  cmake --preset "$preset" >/dev/null
  targets=()
  for part in ${parts[$preset]}; do targets+=("baton_${part}_test"); done
  [[ $preset == tsan ]] && targets+=(baton)
  ninja -C "build/$preset" --quiet "${targets[@]}"
  export GTEST_FILTER="-${skipped[$preset]}"
  if [[ $preset == tsan ]]; then run_transfer; fi
  filter=$(echo "${parts[$preset]}" | tr ' ' '|')
  [[ $preset == tsan ]] && filter=${filter/|transfer/}
  ctest --preset "$preset" -j"$(nproc)" -R "^($filter)\$"
  if [[ $preset == tsan ]]; then
    tools/get_models.sh
    tools/setup.sh --python
    BATON_BINARY="$PWD/build/tsan/baton" .venv/bin/python -m pytest -q tests/e2e/test_threads.py
  fi
done
