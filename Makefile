# What a person does here; the programs are in scripts/. `make` alone lists it.
SHELL       := /bin/bash
PYTHON      ?= python3
BIN         := .venv/bin
WITH_DOCKER := $(BIN)/python scripts/with_docker.py
SHELLS      := scripts/*.sh .ci/run ansible/roles/{run_agent/files/{claimed,dead-man},scratch/files/scratch,cloudwatch_agent/files/run-cloudwatch} containers/nextflow/nextflow bundle/install.sh launcher/user_data.sh
PYTHONS     := agent launcher packer bundle tests scripts examples
# Given on the command line: make test ARGS='-k cancel', make images FORCE=--force
ARGS        ?=
FORCE       ?=
export PYTHON

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup images bundle demo test test-unit test-integration test-machine test-virtual test-image machine lint format bench ami ami-plan ami-pin ami-follow schema lock \
        clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## what is missing on this machine: .venv, Docker (says what it installs; all below do it, as far as they use it)
	@scripts/setup.sh $(or $(MAKECMDGOALS),setup)

images: setup ## the container images, where missing or changed (FORCE=--force: anyway)
	@$(WITH_DOCKER) scripts/build-images.sh $(FORCE)

bundle: setup ## the agent for machine images that are without it, both processors, and Nextflow's container image (docs/own-image.md)
	@$(WITH_DOCKER) bash -c 'scripts/build-images.sh --cpython && exec $(BIN)/python -m bundle $(ARGS)'

demo: setup ## a real pipeline on the embedded cloud, shown live; results in demo-results/
	@$(WITH_DOCKER) bash -c 'scripts/build-images.sh && exec $(BIN)/python scripts/demo.py'

test: test-unit test-integration test-machine ## all tests but those in QEMU

test-unit: setup ## the tests that need no network and no Docker
	$(BIN)/pytest tests/unit $(ARGS)

test-integration: setup ## the tests with the embedded cloud and real containers
	@$(WITH_DOCKER) bash -c 'scripts/build-images.sh && exec $(BIN)/pytest tests/integration --numprocesses 2 --dist loadfile $(ARGS)'

test-machine: setup ## the tests that boot machines: systemd, Docker, the roles of ansible/ (Linux, as root or by sudo)
	@$(WITH_DOCKER) bash -c 'scripts/build-images.sh --cpython && scripts/machine.sh $(BIN)/python -m tests.machine --image \
	    && exec scripts/machine.sh $(BIN)/pytest tests/machine --numprocesses 4 --dist loadgroup $(ARGS)'

test-virtual: setup ## a run on a machine with a kernel and disks of its own, in QEMU (about ten minutes)
	@$(WITH_DOCKER) bash -c 'scripts/build-images.sh && exec scripts/machine.sh $(BIN)/pytest tests/virtual $(ARGS)'

test-image: setup ## what every machine must pass, against one that runs: HOST=ssh://ec2-user@ADDRESS
	$(BIN)/pytest tests/machine/image --hosts=$(or $(HOST),$(error HOST=ssh://USER@ADDRESS names the machine)) --sudo $(ARGS)

machine: setup ## boot a machine and look around in it (ARGS='--run hello': see it execute a run; ARGS=--cloud: for `launcher run`)
	@$(WITH_DOCKER) bash -c 'scripts/build-images.sh && exec scripts/machine.sh $(BIN)/python -m tests.machine $(ARGS)'

lint: setup ## ruff, mypy --strict, who may import whom, shellcheck, ansible-lint
	$(BIN)/ruff check $(PYTHONS)
	$(BIN)/ruff format --check $(PYTHONS)
	$(BIN)/mypy
	$(BIN)/mypy scripts
	$(BIN)/mypy --explicit-package-bases tests
	$(BIN)/lint-imports
	$(BIN)/shellcheck --external-sources $(SHELLS)
	PATH="$(CURDIR)/$(BIN):$$PATH" ANSIBLE_CONFIG=ansible/ansible.cfg ansible-lint --profile production --offline -q ansible packer/*.yml

format: setup ## put the Python files into their form
	$(BIN)/ruff check --fix $(PYTHONS)
	$(BIN)/ruff format $(PYTHONS)

bench: setup ## the table of figures, each against its baseline
	@$(WITH_DOCKER) bash -c 'scripts/build-images.sh && exec scripts/machine.sh nice $(BIN)/python -m tests.bench $(ARGS)'

ami-plan: setup ## what `make ami` would do, and what its storage would cost (ARGS=--offline: without a look at AWS)
	@$(BIN)/python -m packer.release plan $(ARGS)

ami: setup ## the machine image: built, proved, copied to 22 regions, published (docs/machine-image.md; goes on after trouble)
	@$(BIN)/python -m packer.release run $(ARGS)

ami-pin: setup ## write Amazon's newest release of Amazon Linux 2023 into the pin file
	@$(BIN)/python -m packer.follow pin $(ARGS)

ami-follow: setup ## `make ami` for a new release of Amazon Linux 2023, where there is one, and commit the pins
	@$(BIN)/python -m packer.follow run $(ARGS)

schema: setup ## write the JSON Schema of the contract to docs/
	$(BIN)/launcher contract schema > docs/contract.schema.json

lock: setup ## write requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --no-emit-index-url --no-header --universal \
	    --python-version 3.11 --quiet -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --constraint requirements.lock --generate-hashes --no-emit-index-url --no-header \
	    --universal --python-version 3.11 --quiet -o ansible/roles/run_agent/files/requirements.lock

clean: ## remove what make put into this folder, but demo-results/
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find agent launcher packer bundle tests scripts examples -name __pycache__ -type d -prune -exec rm -rf {} +
