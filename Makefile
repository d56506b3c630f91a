# Everything that a person or CI does with this repository. `make` alone lists it.

PYTHON ?=
NETTY ?=
TORCH ?= cpu
PORT ?= 8443
TESTS ?=
export PYTHON TORCH PORT NETTY

BIN := .venv/bin
LINT := .venv/lint/bin
SHELL_SCRIPTS = $(shell grep -d skip -lE '^\#!.*sh$$' .ci/* scripts/*)
PYTHON_SCRIPTS = $(shell grep -d skip -lE '^\#!.*python' scripts/*)
YAML_FILES = campaigns config models .github .yamllint $(wildcard compose*.yaml)
DOCKERFILES = $(wildcard Dockerfile.*)
WORKFLOWS = $(wildcard .github/workflows/*.yml)

SEEN_CALLS = tests/containers/seen_calls.json
# Everything that a deployment goes through: start, all models, custom handlers, explanations, load, HTTP/2, faults, stop.
RECORDED_TESTS = $(patsubst %,tests/stack/test_%.py,cell_of_models custom_handlers explanations lifecycle metrics \
                   predictions rolling tasks tfserving_commands uploads) tests/stack/gateway tests/attacks/test_flooding.py

.DEFAULT_GOAL := help
.PHONY: help setup demo pack serve bench bench-gpu test images stack-test lint lock clean licences pin-bases seccomp-record \
        campaign-agreement campaign-fuzz campaign-soak campaign-flood campaign-cell campaign-drift campaign-escapes campaign-gateway campaign-interrupted campaign-limits campaign-pages campaign-races \
        campaign-alerts campaign-hour campaign-rotation campaign-tampering campaign-tfserving campaign-verification campaign-watch campaign-guard campaign-guard-fuzz

help: ## List these targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' Makefile
	@printf '\nVariables: TORCH=cpu|cuda (%s), PORT (%s), PYTHON, a Python 3.11 (found by itself),\n           NETTY=maven|pyspark|DIR (the first that answers).\n' "$(TORCH)" "$(PORT)"

setup: ## Make .venv with everything that runs without Docker.
	@scripts/setup

demo: setup ## See the gates at work: start, ask, attack, stop.
	@$(BIN)/python scripts/demo

pack: setup ## Pack and sign the sample model digits into build/models.
	@$(BIN)/python scripts/pack-samples

serve: pack ## Serve the sample model digits on https://localhost:PORT until interrupted.
	@$(BIN)/garrison serve --models build/models --unsafe-development --port $(PORT)

bench: ## Measure Garrison next to stock TorchServe and LitServe; needs wrk. BENCH=--quick for minutes.
	@scripts/setup --bench
	@$(BIN)/python -m bench $(BENCH)

bench-gpu: ## Measure the handlers on a GPU, without a server (TORCH=cuda); says so where there is none.
	@scripts/setup --dev
	@$(BIN)/python scripts/bench-gpu

test: ## Run all tests but those of the containers; TESTS=tests/unit for some of them.
	@scripts/setup --dev
	@$(BIN)/pytest $(TESTS)

images: ## Build the images with Docker, and write down their ids in build/images.json.
	@scripts/build-images

stack-test: ## Start the images that were built last, attack them, take them down.
	@scripts/setup --dev
	@$(BIN)/pytest tests/containers

# Each writes campaigns/results/<name>.json. CAMPAIGN="--seconds 600 --seed 2", for example; --help tells the rest.
campaign-fuzz: ## Fuzz every check, a million times each; for about an hour. Uses atheris where it is installed.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.fuzz $(CAMPAIGN)

campaign-guard-fuzz: ## Fuzz the guard, 250,000 times each of six checks; ten minutes. Uses atheris where it is installed.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.guard_fuzz $(CAMPAIGN)

campaign-guard: ## Measure what the guard costs, next to the backend alone; a minute.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.guard $(CAMPAIGN)

campaign-soak: ## Ask the whole stack 100,000 times, compare every answer, watch the memory.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.soak $(CAMPAIGN)

campaign-flood: ## Flood Garrison and stock TorchServe with bombs, side by side; wants a quiet machine.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.flood $(CAMPAIGN)

campaign-cell: ## Measure what the cell costs, next to Garrison before it (CAMPAIGN="--before DIR"); for half an hour.
	@scripts/setup --dev --bench
	@PYTHONPATH=tests $(BIN)/python -m campaigns.cell $(CAMPAIGN)

campaign-watch: ## Measure what the watch costs, next to Garrison before it (CAMPAIGN="--before DIR"); for ten minutes.
	@scripts/setup --dev --bench
	@PYTHONPATH=tests $(BIN)/python -m campaigns.watch $(CAMPAIGN)

campaign-drift: ## Feed a model what it was made for, and then something else; does the watch tell the two apart?
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.drift $(CAMPAIGN)

campaign-escapes: ## Try every escape in stock TorchServe, where it has to work; ten minutes.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.escapes $(CAMPAIGN)

campaign-interrupted: ## Kill 200 admissions at random moments; the store is always old or new.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.interrupted $(CAMPAIGN)

campaign-limits: ## Ask a gateway with 10,000 clients whether each limit is exact, and whether a crowd can refill a bucket.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.limits $(CAMPAIGN)

campaign-hour: ## Record an hour of normal traffic as Prometheus sees it, and replay it; no alert may fire.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.hour $(CAMPAIGN)

campaign-alerts: ## Watch ten minutes of normal traffic, then bring about the cause of each alert; 15 minutes.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.alerts $(CAMPAIGN)

campaign-rotation: ## Change keys, clients, certificate and model while clients ask; no request may fail.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.rotation $(CAMPAIGN)

campaign-races: ## Change models a thousand times while they are admitted and loaded.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.races $(CAMPAIGN)

campaign-tampering: ## Flip a thousand single bits of a signed and of an admitted model.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.tampering $(CAMPAIGN)

campaign-tfserving: ## Compare gateway and guard with the server's own answers, asked by a TensorFlow client.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.tfserving $(CAMPAIGN)

campaign-verification: ## Measure how fast a signed model of 1 GB is verified, and in how much memory.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.verification $(CAMPAIGN)

campaign-gateway: ## Measure what the gateway costs, next to the server's own socket; needs h2load, wants a quiet machine.
	@scripts/setup --dev --bench
	@PYTHONPATH=tests $(BIN)/python -m campaigns.gateway $(CAMPAIGN)

campaign-pages: ## Measure the pages for Prometheus with 100 models and 1,000 clients; three minutes.
	@scripts/setup --dev
	@PYTHONPATH=tests $(BIN)/python -m campaigns.pages $(CAMPAIGN)

campaign-agreement: ## Compare predictions with those after stock's preprocessing; writes bench/agreement.json.
	@scripts/setup --bench
	@$(BIN)/python -m bench.agreement $(CAMPAIGN)

# What is compared with config/seccomp-*.json by tests/unit/test_seccomp_profiles.py; what is new has to be reviewed.
seccomp-record: ## Record which system calls each kind of process makes; needs root and tracefs, takes ten minutes.
	@scripts/setup --dev
	@$(BIN)/python scripts/record-syscalls --output $(SEEN_CALLS) -- scripts/try-commands
	@$(BIN)/python scripts/record-syscalls --merge $(SEEN_CALLS) --output $(SEEN_CALLS) -- \
	    $(BIN)/pytest -q $(RECORDED_TESTS)

lint: ## Check format, types, scripts, YAML, Dockerfiles and workflows.
	@scripts/setup --dev --lint
	$(BIN)/ruff check . $(PYTHON_SCRIPTS)
	$(BIN)/ruff format --check . $(PYTHON_SCRIPTS)
	$(BIN)/mypy handlers/garrison bench campaigns scripts/release scripts/upstream $(wildcard models/*.py models/*/*.py) $(PYTHON_SCRIPTS)
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/yamllint --strict $(YAML_FILES)
	$(LINT)/hadolint $(DOCKERFILES)
	$(LINT)/checkov --skip-download --quiet --compact --framework dockerfile github_actions --file $(DOCKERFILES) $(WORKFLOWS)
	$(LINT)/check-jsonschema --builtin-schema vendor.github-workflows $(WORKFLOWS)
	$(LINT)/zizmor --offline --quiet --no-progress --persona pedantic --strict-collection $(WORKFLOWS)

licences: ## Write docs/licences.md from the bills of materials in the images (make images).
	@$(BIN)/python scripts/list-licences

pin-bases: ## Pin what the images are built on to digests, as the registry tells them now.
	@scripts/pin-bases

lock: ## Write requirements/*.lock anew (needs uv).
	@scripts/lock

clean: ## Remove what was built; .venv stays.
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find handlers models scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
