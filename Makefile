# The two commands: `make demo` and `make test`. Both install what they need (Debian 12).
JOBS ?= $(shell nproc)
MODEL := models/SmolLM2-135M-Instruct-Q4_1.gguf
BATON := build/release/baton
ARGS ?=
FUZZ_SECONDS ?= 300

.PHONY: setup build models demo test unit e2e bench asan tsan fuzz tidy clean

setup:
	@tools/setup.sh

build: setup
	@cmake --preset release >/dev/null
	@ninja -C build/release -j$(JOBS) --quiet baton

models: setup
	@tools/get_models.sh

# Router, prefill and decode on this machine, one question, then a chat page. ARGS=--once exits.
demo: build models
	@$(BATON) up --model-path $(MODEL) --ask "What is 2+2?" $(ARGS)

test: unit e2e

unit: setup models
	@cmake --preset release >/dev/null
	@ninja -C build/release -j$(JOBS) --quiet
	@ctest --preset release -j$(JOBS)

e2e: build models
	@tools/setup.sh --python
	@.venv/bin/python -m pytest tests/e2e -q

bench: build models
	@cmake --preset release -DBATON_BENCHMARKS=ON >/dev/null
	@ninja -C build/release -j$(JOBS) --quiet baton_kernels_bench
	@build/release/benchmarks/baton_kernels_bench --benchmark_min_time=0.2
	@$(BATON) bench engine --model-path $(MODEL)
	@$(BATON) bench transfer --provider shm
	@$(BATON) bench transfer --provider tcp

asan tsan: setup models
	@tools/setup.sh --clang
	@cmake --preset $@ >/dev/null
	@ninja -C build/$@ -j$(JOBS) --quiet
	@ctest --preset $@ -j1

# The fuzz targets are built with ASan and UBSan.
fuzz: setup models
	@tools/setup.sh --clang
	@cmake --preset asan >/dev/null
	@ninja -C build/asan -j$(JOBS) --quiet fuzz_targets
	@tools/run_fuzz.sh build/asan/fuzz $(FUZZ_SECONDS)

tidy:
	@python3 tools/tidy.py

clean:
	@rm -rf build .venv
