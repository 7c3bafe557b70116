#!/usr/bin/env bash
# ASan+UBSan and TSan runs of the parts where threads and outside bytes meet.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A parts=(
  [asan]="api http tokenizer model transfer disagg engine server router"
  [tsan]="http transfer disagg engine kernels"
)
for preset in asan tsan; do
  cmake --preset "$preset" >/dev/null
  targets=()
  for part in ${parts[$preset]}; do targets+=("baton_${part}_test"); done
  ninja -C "build/$preset" --quiet "${targets[@]}"
  filter=$(echo "${parts[$preset]}" | tr ' ' '|')
  ctest --preset "$preset" -R "^($filter)\$"
done
