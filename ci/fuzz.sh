#!/usr/bin/env bash
# 15 seconds of fuzzing per target.
set -euo pipefail
cd "$(dirname "$0")/.."
make --no-print-directory fuzz FUZZ_SECONDS="${FUZZ_SECONDS:-15}"
