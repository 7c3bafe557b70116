#!/bin/bash
# Device memory in the transfer engine on real GPUs: the GPU tests, then the bench over every path.
# Under six minutes on two GPUs; with one, cuda:1 is left out. Prints everything; exit code 1 when
# anything failed.
#
#   benchmarks/cuda_transfer.sh [PATH/TO/baton [PATH/TO/baton_transfer_test]]
set -u
baton=${1:-build/release/baton}
tests=${2:-build/release/baton_transfer_test}
failed=0

step() {  # seconds command...
  local limit=$1
  shift
  echo "+ $*"
  timeout "$limit" "$@" || { echo "FAILED ($?): $*"; failed=1; }
}

nvidia-smi --query-gpu=index,name,driver_version,memory.free --format=csv || echo "nvidia-smi is not here"
nvidia-smi topo -m 2>/dev/null
gpus=$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | wc -l)
ulimit -l; df -h /dev/shm | tail -1

step 90 "$tests" --gtest_filter='CudaGpu*'

pairs="cuda:0,cuda:0 host,cuda:0 cuda:0,host"
[ "$gpus" -ge 2 ] && pairs="cuda:0,cuda:1 $pairs"
for provider in shm tcp; do
  for pair in $pairs; do
    step 25 "$baton" bench transfer --provider $provider --local-memory "${pair%,*}" --remote-memory "${pair#*,}" \
      --total-mib 128 --block-kib 4,16,64,1024 --rounds 3 --latency-samples 50 --timeout 15
  done
done
# Staged above two rails (of one loopback interface: no faster than one, but the path of machines without
# GPUDirect), and the same bytes from and to host memory.
for pair in $pairs host,host; do
  step 25 "$baton" bench transfer --provider tcp --transfer-rails 127.0.0.1,127.0.0.2 --local-memory "${pair%,*}" \
    --remote-memory "${pair#*,}" --total-mib 128 --block-kib 16,64,1024 --rounds 3 --latency-samples 50 --timeout 15
done
step 15 "$baton" bench transfer --provider shm --total-mib 128 --block-kib 16,1024 --rounds 3 --latency-samples 50 --timeout 10
exit $failed
