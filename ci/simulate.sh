#!/usr/bin/env bash
# A minute of fresh schedules of the transfer simulation. A failure prints the seed that repeats it.
set -euo pipefail
cd "$(dirname "$0")/.."
build/release/baton_transfer_test --simulate "${SIMULATE_SECONDS:-60}"
