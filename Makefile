# All set-up is done by these targets themselves, on a Debian 12 or 13 that has git, make and python3.
#
#   make demo          runs three real Prefect flows with the agent and the embedded API of this checkout
#   make check         what to run before each commit: the linters and the quick tiers, side by side
#   make test          runs every tier of tests; ARGS='-k scope' is passed on to pytest; JOBS=auto, or a number,
#                      runs them side by side
#   make test-unit     runs one tier: static, unit, api, contract, process, chaos, prefect, bench, browser,
#                      system, vm, package
#   make chaos         breaks things for an hour: a thousand kills of the agent, ...; SEED=n repeats a run
#   make fuzz          sends 100,000 wild packets to the broker on each Debian; FUZZ_SEED=n repeats a run
#   make fuzz-api      gives 100,000 wild answers of an API to the agent; FUZZ_SEED=n repeats a run
#   make bench         measures the real Prefect agent and this one in turn; ROUNDS=n ONLY=start,burst,... REALTIME=1
#   make deb           builds the packages for Debian 12 and 13 into build/deb
#   make apt-repo      makes an apt repository of them in build/apt; KEY=... signs it with your gpg key
#   make autopkgtest   runs debian/tests on packages installed in booted Debians
#   make shell         boots a Debian with this checkout's agent and gives a root shell; DEBIAN=12 or 13
#   make lint          runs the linters
#   make format        formats the code
#   make clean         removes what these targets made in the checkout; make clean-cache what lies outside

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
TIERS := static unit api contract process chaos prefect bench browser system vm package
DEBIAN := 13
ARGS :=
SEED :=
JOBS := 1
side_by_side = $(if $(filter-out 0 1,$(1)),-n $(1) --no-loadscope-reorder)

.PHONY: help
help:
	@sed -n 's/^#   //p' Makefile

.PHONY: venv
venv:
	@packaging/setup/install.sh run
	@/usr/bin/python3 packaging/setup/venv.py server dev

.PHONY: test-setup
test-setup: venv
	@packaging/setup/install.sh run test

# Made here and not in a test, so that no test's time is spent on it
.PHONY: prefect
prefect: venv
	@PYTHONPATH=tests $(PYTHON) tests/support/prefect_venv.py >/dev/null

# Virtual environments of Prefect 3 and 2.20, and empty data files of their servers
.PHONY: prefect3
prefect3: venv
	@PYTHONPATH=tests $(PYTHON) tests/support/prefect3_server.py >/dev/null

.PHONY: debians
debians: test-setup prefect
	@[ "$$(id -u)" -ne 0 ] || PYTHONPATH=tests $(PYTHON) tests/support/debian.py >/dev/null

# For the virtual machine
.PHONY: kernel
kernel: test-setup
	@[ "$$(id -u)" -ne 0 ] || PYTHONPATH=tests $(PYTHON) tests/support/vm.py >/dev/null

# The packages, and plain Debians to install them on
.PHONY: packages
packages: debians
	@[ "$$(id -u)" -ne 0 ] || PYTHONPATH=tests:packaging/deb $(PYTHON) tests/support/plain_debian.py >/dev/null
	@[ "$$(id -u)" -ne 0 ] || PYTHONPATH=tests:packaging/deb $(PYTHON) packaging/deb/build.py >/dev/null

.PHONY: demo
demo: venv prefect
	@$(PYTHON) packaging/demo/demo.py --prefect-python "$$(PYTHONPATH=tests $(PYTHON) tests/support/prefect_venv.py)"

.PHONY: unpacked
unpacked: test-setup
	@PYTHONPATH=tests $(PYTHON) tests/support/unpacked.py >/dev/null

.PHONY: browser
browser: test-setup
	@packaging/setup/install.sh run test browser

.PHONY: test
test: test-setup prefect prefect3 browser debians kernel unpacked packages
	$(PYTEST) $(call side_by_side,$(JOBS)) $(ARGS)

# All that needs no root, no network and no prefect, but for what is measured
.PHONY: check
check: test-setup
	$(PYTEST) $(call side_by_side,auto) -q -m 'not alone' tests/static tests/unit tests/api $(ARGS)

.PHONY: $(TIERS:%=test-%)
test-static test-unit test-api test-contract test-process test-chaos: test-setup
test-process: unpacked
test-prefect test-bench: test-setup prefect unpacked
test-prefect3: test-setup prefect3 unpacked
test-browser: browser
test-system: debians
test-vm: debians kernel
test-package: packages
$(TIERS:%=test-%):
	$(PYTEST) $(call side_by_side,$(JOBS)) tests/$(@:test-%=%) $(ARGS)

.PHONY: fuzz
fuzz: debians
	FUZZ_MESSAGES=$${FUZZ_MESSAGES:-100000} $(PYTEST) tests/system/broker/test_fuzz.py -s $(ARGS)

.PHONY: fuzz-api
fuzz-api: test-setup
	FUZZ_ANSWERS=$${FUZZ_ANSWERS:-100000} $(PYTEST) tests/process/agent/test_border_fuzz.py -s $(ARGS)

.PHONY: deb
deb: test-setup
	@PYTHONPATH=tests:packaging/deb $(PYTHON) packaging/deb/build.py

.PHONY: autopkgtest
autopkgtest: packages
	LOCAL_AGENT_TESTS_AUTOPKGTEST=all $(PYTEST) tests/package/test_autopkgtest.py $(ARGS)

.PHONY: apt-repo
apt-repo: deb
	@PYTHONPATH=tests:packaging/deb $(PYTHON) packaging/deb/apt_repository.py $(if $(KEY),--key $(KEY))

.PHONY: chaos
chaos: packages
	LOCAL_AGENT_TESTS_CHAOS=long LOCAL_AGENT_TESTS_SEED=$(SEED) \
		$(PYTEST) tests/chaos tests/system/ends/test_restarts.py tests/system/agent/test_stopped_readers.py \
		tests/system/agent/test_stopped_services.py tests/system/broker/test_starts.py -s $(ARGS)

# Theirs, ours, theirs, ours, ...: three quarters of an hour with the usual five rounds
.PHONY: bench
bench: debians
	@PYTHONPATH=tests:src $(PYTHON) -m bench $(ARGS)

.PHONY: shell
shell: debians
	@PYTHONPATH=tests $(PYTHON) tests/support/shell.py $(DEBIAN)

.PHONY: lint
lint: test-static

.PHONY: format
format: venv
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

.PHONY: clean
clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: clean-cache
clean-cache:
	rm -rf "$${LOCAL_AGENT_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/local-agent}"
