# make demo   play the whole tour on this machine        make test    everything that must hold
# make bench  what we claim about speed, measured        make check   lint, layers, types
# make test-vm  the scenarios on real virtual machines (QEMU, libvirt, Vagrant), in a network namespace of their own; as root
# make test-in-vm  scenarios on namespace machines inside a virtual machine: systemd, cgroup version 2, a kernel with modules; as root
# make test-fresh  make test in a fresh Debian 12, which has nothing that happens to be on this host; as root (FRESH='make demo': another command there)
# make boxes  what make test-vm fetches and builds first: packages, and the box of virtual machines; as root
# make bench-vm what virtual machines cost, measured there
# make conformance  Kubernetes' own end-to-end tests against a lab of namespace machines; as root, about an hour
# make derive what is generated from Kubernetes' definitions: after a kind was added
# make setup  what the demo needs                        make develop what tests, checks and bench need besides

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
# Scenarios wait more than they compute: two processes of tests more than there are processors.
WORKERS ?= $(shell expr $$(nproc) + 2)

.PHONY: derive demo test test-vm test-in-vm test-fresh boxes check bench bench-vm conformance setup develop clean
.DELETE_ON_ERROR:

demo: setup
	$(BIN)/python -m tools.demo

test: develop check
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(TESTS)

test-vm: $(VENV)/ready-for-vms
	VENV=$(VENV) sh tools/test_vm.sh $(TESTS)

boxes: $(VENV)/ready-for-vms
	$(BIN)/labctl box build

test-in-vm: $(VENV)/ready-for-vms
	VENV=$(VENV) sh tools/test_in_vm.sh $(TESTS)

test-fresh: setup
	sh tools/in_fresh_debian.sh $(FRESH)

check: develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

derive: develop
	$(BIN)/python tools/derive_schema.py
	$(BIN)/python tools/derive_protobuf.py
	$(BIN)/python -m tools.derive_kinds

conformance: develop
	$(BIN)/python -m tools.conformance $(if $(FOCUS),--focus '$(FOCUS)')

bench: develop
	$(BIN)/python -m bench

bench-vm: $(VENV)/ready-for-vms
	sh tools/vm_env.sh $(BIN)/python -m bench --only vms --only warm_vms

setup: $(VENV)/ready
develop: $(VENV)/ready-to-develop

SETUP := pyproject.toml setup.py tools/setup.sh labctl/lab/requirements.py

$(VENV)/ready: $(SETUP)
	PYTHON=$(PYTHON) VENV=$(VENV) sh tools/setup.sh
	touch $@

# all that the demo needs is part of it
$(VENV)/ready-to-develop: $(SETUP)
	PYTHON=$(PYTHON) VENV=$(VENV) sh tools/setup.sh dev
	touch $(VENV)/ready $@

$(VENV)/ready-for-vms: $(VENV)/ready-to-develop
	PYTHON=$(PYTHON) VENV=$(VENV) sh tools/setup.sh vm
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
