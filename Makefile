# Two commands: `make demo` takes a real virtual machine through its life, `make test` passes the tests. Each installs
# what it needs: Debian or Ubuntu packages (through sudo unless root) and a virtual environment in .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Who runs virtual machines needs the first line, who builds images the second, who runs all the tests the third.
RUN   := qemu-system-x86 qemu-utils openssh-client util-linux
BUILD := mmdebstrap debian-archive-keyring uidmap fakeroot e2fsprogs fdisk mtools
TEST  := qemu-system-arm ovmf qemu-efi-aarch64 swtpm openssh-server strace cpio iproute2 graphviz librsvg2-bin tzdata spin gcc libc6-dev rsync

# The tests run in one process more than this machine has processors, up to five: many of them wait for something.
PYTEST := $(BIN)/python -m pytest -n $(shell expr $$(nproc) + 1) --maxprocesses 5 --dist worksteal

# The tests have their folders in memory where there is room, and where programs may be run from there: to remove a folder
# from a disk takes longer than most tests. What builds and boots images needs more room, and makes device files.
MEMORY := $(shell findmnt -fno OPTIONS /dev/shm | grep -qv noexec && echo TMPDIR=/dev/shm)
ROOMY  := $(shell findmnt -fbno AVAIL,OPTIONS /dev/shm | awk '$$1 >= 8 * 2^30 && !/noexec|nodev/ {print "TMPDIR=/dev/shm"}')

.PHONY: demo test check test-cluster diagrams docs benchmarks clean

demo: $(VENV)/.installed
	tools/packages.sh $(RUN) $(BUILD) ipxe-qemu
	tools/demo.sh $(BIN)/interlock

test: $(VENV)/.developing $(VENV)/drawing $(VENV)/pyright
	tools/packages.sh $(RUN) $(BUILD) $(TEST) ipxe-qemu
	$(ROOMY) $(PYTEST) $(ARGS)
	$(if $(ARGS),,$(CLUSTERED))

# The tests on a cluster come last in a whole run, where namespaces may be made; elsewhere the run says that they were left out.
# To make and delete a hundred instances takes five minutes, so only `make test-cluster` by itself does that.
CLUSTERED = @if [ "$$(id -u)" = 0 ] && unshare --net --mount --uts --ipc --pid --fork true; \
	then $(MAKE) test-cluster EXCEPT='-k "not hundred"'; \
	else echo 'left out: the tests on a cluster (make test-cluster), because they need root and namespaces'; fi

# What needs no guest and no minute: linters, types, import contracts, unit and functional tests.
check: $(VENV)/.developing
	tools/packages.sh $(RUN) $(BUILD) $(TEST) ipxe-qemu
	$(MEMORY) $(PYTEST) -m "not slow" tests/unit tests/functional tests/limactl $(ARGS)

# Three Ganeti nodes in namespaces of this machine, and real guests: needs root, and takes a quarter of an hour. The driver's
# tests run side by side, those that kill nodes alone. CLUSTER=DIR keeps the cluster in DIR from run to run.
test-cluster: $(VENV)/.developing
	tools/packages.sh $(RUN) $(BUILD) $(TEST)
	$(ROOMY) $(if $(CLUSTER),INTERLOCK_TEST_CLUSTER=$(CLUSTER)) $(BIN)/python tests/cluster/nodes.py during sh -ec \
		'$(if $(ARGS),,$(PYTEST) tests/cluster/test_driver.py; ) \
		$(BIN)/python -m pytest -n 0 tests/cluster $(or $(ARGS),--ignore tests/cluster/test_driver.py $(EXCEPT))'

diagrams: $(VENV)/.installed
	$(BIN)/python -m interlock.diagrams

docs: $(VENV)/.developing
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'site/index.html'

benchmarks: $(VENV)/.developing
	tools/packages.sh $(RUN) $(BUILD) $(TEST) ipxe-qemu
	$(BIN)/python benchmarks/cli.py
	$(BIN)/python benchmarks/boot.py
	$(BIN)/python benchmarks/fleet.py

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { tools/packages.sh python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/drawing: tools/drawing.sh | $(VENV)/.installed
	tools/drawing.sh $@

$(VENV)/pyright: tools/pyright.sh | $(VENV)/.installed
	tools/pyright.sh $@

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
