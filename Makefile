# make run      trace on this machine: FILTER='tcp port 443' ARGS='--priority 2'; a demo without them
# make test     check, tests on this kernel, then the lab's quick tier: real kernels under QEMU
# make test-full  the same with the lab's full tier; tests/README.md describes the tiers
# make check    format, lint, types and unit tests, without root
# make bpf-check  format and warnings of the C in bpf/, of make check
# make lab      the lab's tests alone; TIER=full for all of them
# make bench    benchmarks; with ARGS=--smallest each takes seconds, to check that it works
# make install  into $(PREFIX), below $(DESTDIR)
# make clean    remove what make built
# make generate  make again what is made from the flag table: fields, man page, completions, docs
#
# Without make: pipx, as described in README.md (it must have access to Debian's python3-bpfcc).
#
# Each target installs missing packages and prints their names. Run make as root, or with sudo.

PREFIX ?= /usr/local
# Debian's interpreter: no other one finds python3-bpfcc.
PYTHON ?= /usr/bin/python3
BIN := .venv/bin
NO_SUDO := sh -c 'echo "make: this needs root, and there is no sudo: run make as root" >&2; exit 1'
SUDO := $(if $(filter 0,$(shell id -u)),,$(if $(shell command -v sudo),sudo,$(NO_SUDO)))

RUN_PACKAGES := iproute2 iputils-ping libpcap0.8 nftables python3 python3-bpfcc python3-venv
TEST_PACKAGES := bash-completion bpftool bsdextrautils clang conntrack curl debian-archive-keyring ethtool gcc iperf3 iptables jq \
	kmod libpcap-dev mandoc python3-dev qemu-system-x86 strace tcpdump tshark zsh zstd

# Exported as typed, so that a shell, and not make, interprets their quotes and dollar signs.
override export FILTER := $(value FILTER)
override export ARGS := $(value ARGS)

PYTHON_FILES := . $(shell grep -slE -d skip '^\#!.*python' tests/lab/* bench/* contrib/python/* setup/*)
C_FILES := $(filter-out bpf/headers/%,$(wildcard bpf/*.[ch] bpf/*/*.[ch]))
BENCHES := $(filter-out bench/demo %.py %/__pycache__,$(wildcard bench/*))
# compat mode puts the tree on sys.path: setuptools' import hook for editable packages would cost
# each interpreter 15 ms.
EDITABLE := --config-settings editable_mode=compat --editable
# Emulated guests share the tree: with its bytecode none of them has to compile it again.
PRECOMPILE = $(BIN)/python -m compileall -q pypwru tests
# Tier of the lab. With PYPWRU_TESTS=all a test that can't run fails instead of being skipped.
TIER := quick
ALL_TESTS = PYPWRU_TESTS=all PYPWRU_TIER=$(TIER)
# Install with pip and print one line that names the installed packages.
pip_install = umask 022; done=$$($(BIN)/pip --disable-pip-version-check install $(1)) && \
	printf '%s\n' "$$done" | sed -n 's/^Successfully installed/setup: installed into .venv:/p' >&2

.PHONY: run test test-full check bpf-check lab bench generate install clean
.DEFAULT_GOAL := run

run: .venv/run.stamp
	@if [ -n "$$FILTER$$ARGS" ]; then \
	    eval "set -- $$ARGS"; \
	    exec $(SUDO) $(BIN)/pypwru "$$@" $${FILTER:+"$$FILTER"}; \
	else \
	    exec $(SUDO) bench/demo $(BIN)/pypwru; \
	fi

test: TIER := quick
test-full: TIER := full
test test-full: check
	$(PRECOMPILE)
	$(SUDO) env $(ALL_TESTS) $(BIN)/pytest --durations=15 tests/native tests/lab

check: .venv/test.stamp
	$(BIN)/ruff format --check --quiet $(PYTHON_FILES)
	$(BIN)/ruff check --quiet $(PYTHON_FILES)
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	$(BIN)/mypy $(PYTHON_FILES)
	$(BIN)/lint-imports
	tests/support/as_nobody python -m pytest -n auto tests/unit

bpf-check: .venv/test.stamp
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	$(BIN)/pytest tests/unit/test_bpf_headers.py tests/unit/program/test_layout.py

lab: .venv/test.stamp
	$(PRECOMPILE)
	$(SUDO) env $(ALL_TESTS) $(BIN)/pytest --durations=15 tests/lab

bench: .venv/test.stamp
	@for bench in $(BENCHES); do \
	    echo "== $$bench"; \
	    $(SUDO) env PATH="$(CURDIR)/$(BIN):$$PATH" "$$bench" $$ARGS || exit; \
	done

generate: .venv/test.stamp
	$(BIN)/python -m tools.generate

# A virtual environment contains its own absolute path, which changes when $(DESTDIR) is unpacked:
# replace it.
install: | .venv/run.stamp
	umask 022; root="$(DESTDIR)$(PREFIX)"; place="$$root/lib/pypwru"; set -e; \
	$(PYTHON) -m venv --system-site-packages "$$place"; \
	"$$place/bin/python" -m pip --quiet --disable-pip-version-check install --upgrade .; \
	[ -z "$(DESTDIR)" ] || find "$$place/bin" "$$place/pyvenv.cfg" -type f -exec sed -i "s|$$root|$(PREFIX)|g" {} +; \
	install -d "$$root/bin"; \
	ln -sf ../lib/pypwru/bin/pypwru "$$root/bin/pypwru"; \
	(cd "$$place/share"; find . -path '*pypwru*' -type f) | while read -r file; do \
	    install -D -m 644 "$$place/share/$$file" "$$root/share/$$file"; \
	done

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Checked before anything is installed; without any Python, the system packages provide one.
require_python = ! command -v $(PYTHON) >/dev/null || $(PYTHON) -c 'import sys; v = sys.version_info; \
	sys.exit(v < (3, 10) and "pypwru needs Python 3.10 or newer; $(PYTHON) is " + "%d.%d" % v[:2])'

.venv/run.stamp: setup.cfg pyproject.toml setup/system-packages
	@$(require_python)
	@setup/system-packages $(RUN_PACKAGES)
	@umask 022; $(PYTHON) -m venv --system-site-packages .venv
	@$(call pip_install,$(EDITABLE) .)
	@touch $@

.venv/test.stamp: .venv/run.stamp
	@setup/system-packages $(TEST_PACKAGES)
	@$(call pip_install,$(EDITABLE) .[test])
	@touch $@
