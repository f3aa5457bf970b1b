# Colossus: the short names. What they do is in CMakePresets.json and scripts/.
#   make         build the colossus command (build/release/bin/colossus)
#   make demo    train a small Grok on text of this machine and talk to it (TEXT=dir for your text, FRESH=1 to start over)
#   make test    build and run every test      make bench   measure this machine
#   make chaos   break runs on purpose and compare what is left (FAULTS=n of each kind; TEXT=file to learn from)
#   make test-cluster   the same over machines that are network namespaces, with etcd (root; ONLY=kind TIMES=n)
#   make fuzz    hostile files, read by every reader for FUZZ_SECONDS (ONLY="names"; docs/fuzzing.md)
#   make coverage   which share of the readers' lines the tests run (docs/fuzzing.md)
#   make asan    the tests under the address and undefined-behaviour sanitizers      make tsan   ... the thread sanitizer
#   make format  make tidy  make clean
# Packages that are missing are installed first (Debian; root or sudo); NO_INSTALL=1 leaves the machine alone.
JOBS ?= $(shell nproc)
PRESET ?= release
BUILD := build/$(PRESET)
INSTALL := $(if $(NO_INSTALL),@:,@scripts/install_packages.sh)

.PHONY: all demo test chaos test-cluster bench asan tsan fuzz coverage cuda format tidy clean packages

all:
	$(INSTALL) build
	@test -f $(BUILD)/build.ninja || cmake --preset $(PRESET) -DCOLOSSUS_TESTS=OFF -DCOLOSSUS_BENCH=OFF
	@cmake --build $(BUILD) --parallel $(JOBS) --target colossus
	@echo "built: $(BUILD)/bin/colossus"

demo: all
	@COLOSSUS=$(BUILD)/bin/colossus TEXT="$(TEXT)" FRESH="$(FRESH)" scripts/demo.sh

test:
	$(INSTALL) test
	@cmake --preset $(PRESET) -DCOLOSSUS_TESTS=ON -DCOLOSSUS_BENCH=ON
	@cmake --build $(BUILD) --parallel $(JOBS)
	@ctest --test-dir $(BUILD) --output-on-failure --parallel $(JOBS)

chaos:
	$(INSTALL) test
	@cmake --preset $(PRESET) -DCOLOSSUS_TESTS=ON -DCOLOSSUS_BENCH=OFF
	@cmake --build $(BUILD) --parallel $(JOBS) --target colossus_chaos
	@$(BUILD)/bin/colossus_chaos $(if $(FAULTS),--faults $(FAULTS)) $(if $(TEXT),--text $(TEXT))

test-cluster:
	$(INSTALL) test cluster
	@cmake --preset $(PRESET) -DCOLOSSUS_TESTS=ON -DCOLOSSUS_BENCH=OFF
	@cmake --build $(BUILD) --parallel $(JOBS) --target colossus_cluster_chaos
	@$(BUILD)/bin/colossus_cluster_chaos $(if $(TIMES),--times $(TIMES)) $(if $(ONLY),--only "$(ONLY)")

bench:
	$(INSTALL) bench
	@cmake --preset $(PRESET) -DCOLOSSUS_BENCH=ON
	@cmake --build $(BUILD) --parallel $(JOBS)
	@COLOSSUS=$(BUILD)/bin/colossus BUILD=$(BUILD) scripts/bench.sh

asan tsan:
	@$(MAKE) --no-print-directory test PRESET=$@

fuzz:
	$(INSTALL) test fuzz
	@cmake --preset fuzz
	@cmake --build build/fuzz --parallel $(JOBS) --target $(if $(ONLY),$(addsuffix _fuzz,$(ONLY)),fuzz_programs)
	@JOBS=$(JOBS) ONLY="$(ONLY)" $(if $(FUZZ_SECONDS),FUZZ_SECONDS=$(FUZZ_SECONDS)) scripts/fuzz.sh

coverage:
	$(INSTALL) test
	@JOBS=$(JOBS) scripts/reader_coverage.sh

# The program with the CUDA device, and what checks it on a GPU (bench/gpu); compiling needs nvcc, no GPU.
cuda:
	$(INSTALL) test
	@cmake --preset cuda
	@cmake --build build/cuda --parallel $(JOBS) --target colossus colossus_gpu_check train_bench decode_bench gpu_ceilings
	@scripts/pack_gpu_check.sh

SOURCES = $(shell git ls-files --cached --others --exclude-standard 'src/*.h' 'src/*.cc' 'src/*.cu' 'tests/*.h' 'tests/*.cc' 'bench/*.cc')

format:
	clang-format -i $(SOURCES)

tidy: all
	clang-tidy -p $(BUILD) --quiet $(filter-out %_test.cc %_simd.cc,$(filter src/%.cc,$(SOURCES)))

clean:
	rm -rf build
