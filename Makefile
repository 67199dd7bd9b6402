# The only entry point: people and CI call these targets and nothing else. `make` or `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
DEPLOY_VENV := .venv-deploy
DEPLOY_BIN := $(DEPLOY_VENV)/bin
DEPLOY_STAMP := $(DEPLOY_VENV)/.ready
SOURCES := services tools tests bench examples
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup lab test unit ci lint format type proto proto-write fuzz check-arm check-weights ship-plan integration e2e \
	bench bench-coders bench-policy bench-ablations bench-fleet bench-lab bench-thin bench-overhead bench-telemetry bench-serving bench-decide bench-gateway bench-tenants bench-scheduling bench-choice bench-track bench-codec bench-codec-speed bench-shift bench-link bench-simlab bench-meshload bench-meshload-wrk models-report \
	chaos soak docs lock lock-upgrade clean \
	images images-base images-lint wheelhouse sbom compose-up compose-down compose-smoke e2e-compose helm-test rules-test chart-files

help: ## Show this list.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# -- environment ------------------------------------------------------------------------------------------------

setup: $(STAMP) ## Make .venv with the locked packages and splitmesh itself; again only when a lock changed.
	@echo "ready: $(BIN)/splitmesh --help"

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "'$(PYTHON)' is not there: install Python 3.11 or later," \
	  "or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "splitmesh needs Python 3.11 or later;" \
	  "'$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "'$(PYTHON)' lacks the venv module." \
	  "On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV)

$(STAMP): requirements/dev.txt pyproject.toml $(wildcard services/splitmesh/codec/planes/*.[ch] services/splitmesh/policy/numeric/*.[ch]) | $(BIN)/python
	@echo "installing the locked packages (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'from splitmesh.codec.planes.kernel import COMPILED as c; import sys; sys.exit(c is None)' || \
	  echo "no C compiler or no Python headers: features are coded in plain Python, some hundred times slower." \
	  "On Debian and Ubuntu: apt install gcc python3-dev, then: rm $@; make setup" >&2
	@touch $@

lock: $(STAMP) ## Make the locks in requirements/ follow pyproject.toml, changing as little as possible.
	$(BIN)/python tools/lock.py

lock-upgrade: $(STAMP) ## Move every locked package to its newest allowed version.
	$(BIN)/python tools/lock.py --upgrade

# -- use --------------------------------------------------------------------------------------------------------

lab: $(STAMP) ## Whole mesh on this machine: video, edge, worker, broker, a link that worsens. ARGS='--duration 2m'
	@$(BIN)/splitmesh lab $(ARGS)

chaos: $(STAMP) ## Faults struck into a running mesh, twenty times each; half an hour. ARGS='--only kill,stop'
	@$(BIN)/python -m bench.chaos $(ARGS)

soak: $(STAMP) ## A loaded mesh for 30 minutes; fails on a lost frame or anything that grows. ARGS='--minutes 3'
	@$(BIN)/python -m bench.soak $(ARGS)

# -- checks -----------------------------------------------------------------------------------------------------

ci: lint type proto test ## What CI runs: every check that needs no network beyond the package index.

lint: $(STAMP) ## Style and common faults (ruff).
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

format: $(STAMP) ## Rewrite the sources in the house format.
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

type: $(STAMP) ## Types (mypy, strict).
	@$(BIN)/mypy
	@$(BIN)/mypy -p tools -p bench --exclude "^tools/meshload/"

proto: $(STAMP) ## Wire definition is clean, breaks nothing of the last release; committed code follows from it.
	@cd proto && ../$(BIN)/buf lint
	@tag=$$(git describe --tags --abbrev=0 2>/dev/null); if [ -n "$$tag" ]; then \
	  cd proto && ../$(BIN)/buf breaking --against "../.git#tag=$$tag,subdir=proto"; \
	  else echo "no release is tagged yet: nothing that the definition could break"; fi
	@$(BIN)/python tools/generate_proto.py --check

proto-write: $(STAMP) ## Regenerate the code from proto/.
	@$(BIN)/python tools/generate_proto.py

NONE_OK = [ $$? -eq 5 -a -n '$(strip $(subst ','\'',$(ARGS)))' ]  # what ARGS names may all be in the other half

test: $(STAMP) ## Unit, contract and integration tests. ARGS='-k name'
	@$(BIN)/python -m pytest -n logical --dist loadfile tests/unit $(ARGS) || $(NONE_OK)
	@$(BIN)/python -m pytest tests/contract tests/integration tests/chaos $(ARGS) || $(NONE_OK)

unit: $(STAMP) ## Unit tests only.
	@$(BIN)/python -m pytest -n logical --dist loadfile tests/unit $(ARGS)

integration: $(STAMP) ## Contract and integration tests only: real broker, real runtime, real files.
	@$(BIN)/python -m pytest tests/contract tests/integration $(ARGS)

e2e: $(STAMP) ## End-to-end tests: the commands as a user starts them, with real tools around them.
	@echo "tests that need a system package which is absent are skipped; tests/e2e/README.md has the apt line"
	@$(BIN)/python -m pytest tests/e2e $(ARGS)

fuzz: $(STAMP) ## A million mutated payloads for every decoder; an hour or more. ARGS='--only u8lz4 --seconds 300 --more'
	@$(BIN)/python -m tools.fuzz $(ARGS)

check-arm: $(STAMP) ## Every package that an edge needs has a wheel for 64-bit ARM Linux, Python 3.11 to 3.13.
	@$(BIN)/python tools/check_arm.py $(ARGS)

check-weights: $(STAMP) ## Built-in weights still equal the original that they were converted from.
	@$(BIN)/python tools/check_weights.py $(ARGS)

ship-plan: $(STAMP) ## Measure the plan that ships with the default model anew. ARGS='--media DIR'
	@$(BIN)/python tools/ship_plan.py $(ARGS)

# -- images and compose: what containers need is in an environment of its own, $(DEPLOY_VENV) ---------------------------

COMPOSE ?= $(if $(shell docker version >/dev/null 2>&1 && echo yes),docker compose,$(CURDIR)/$(DEPLOY_BIN)/podman-compose)
PROFILES ?= core

$(DEPLOY_STAMP): requirements/deploy.txt | $(BIN)/python
	@echo "installing what builds and checks deployments into $(DEPLOY_VENV)"
	@$(BIN)/python -m venv $(DEPLOY_VENV)
	@$(DEPLOY_BIN)/python -m pip install --quiet --require-hashes -r requirements/deploy.txt
	@touch $@

images: $(STAMP) ## Container images. ARGS='edge cloud' BASE_IMAGE=… BUILD_IMAGE=… WHEELHOUSE=DIR
	@$(BIN)/python tools/images.py build $(ARGS)

images-base: $(STAMP) ## Base images from Debian's archive, for where no registry answers; as root.
	@$(BIN)/python tools/images.py base

images-lint: $(DEPLOY_STAMP) ## The Dockerfile is free of common faults (hadolint).
	@$(DEPLOY_BIN)/hadolint deploy/images/Dockerfile

wheelhouse: $(STAMP) ## All wheels that images need, for building them without a network.
	@$(BIN)/python tools/images.py wheelhouse

sbom: $(STAMP) ## What is in the images, as CycloneDX documents in out/sbom.
	@$(BIN)/python tools/images.py sbom

compose-up: $(STAMP) $(DEPLOY_STAMP) ## The mesh in containers, in the background. PROFILES='core observability'
	@$(BIN)/python tools/compose_state.py
	@cd deploy/compose && $(COMPOSE) $(PROFILES:%=--profile %) up --detach
	@echo "edge: http://127.0.0.1:9464/status   gateway: https://127.0.0.1:9466"

compose-down: $(DEPLOY_STAMP) ## End it: containers, networks and volumes.
	@cd deploy/compose && $(COMPOSE) --profile core --profile observability --profile load --profile rtsp down --volumes

compose-smoke: $(STAMP) ## Frames flow through the mesh that is up, and none is lost.
	@$(BIN)/python tools/compose_smoke.py $(ARGS)

e2e-compose: $(STAMP) $(DEPLOY_STAMP) images ## The mesh in containers outlives its hub: 500 frames, 20 s without it.
	@$(BIN)/python -m pytest tests/e2e/test_compose.py -s -rs $(ARGS)

helm-test: $(STAMP) $(DEPLOY_STAMP) ## The Helm chart: lint, schema, three Kubernetes versions, policies, upgrades, real brokers.
	@$(BIN)/python tools/chart_files.py --check
	@$(BIN)/python -m pytest tests/deploy/test_helm_*.py tests/deploy/test_dashboards.py tests/deploy/test_rules.py $(ARGS)

rules-test: $(STAMP) ## Alerts fire when they must and not when they must not (promtool: apt install prometheus).
	@$(BIN)/python -m pytest tests/deploy/test_rules.py tests/deploy/test_dashboards.py $(ARGS)

chart-files: $(STAMP) $(DEPLOY_STAMP) ## Dashboards from their table; what the chart copies; what it makes of its profiles.
	@$(BIN)/python -m tools.dashboards
	@$(BIN)/python tools/chart_files.py
	@$(BIN)/python -m tools.chart_profiles

# -- measurements: each writes JSON and PNG under bench/results/ ----------------------------------------------------

bench: bench-codec-speed bench-codec bench-shift bench-track bench-link bench-overhead bench-telemetry bench-decide bench-scheduling bench-choice bench-thin bench-policy bench-ablations bench-lab bench-simlab bench-meshload bench-meshload-wrk ## All benchmarks.

bench-policy: $(STAMP) ## Policies over links, and their recovery from shifts, simulated; half an hour. ARGS='--traces DIR'
	@$(BIN)/python -m bench.policy $(ARGS)

bench-fleet: $(STAMP) ## What a simulated fleet costs, and what a sample of one is worth.
	@$(BIN)/python -m bench.fleet $(ARGS)

bench-ablations: $(STAMP) ## What each part of the adaptive policy is worth, simulated. ARGS='--traces DIR'
	@$(BIN)/python -m bench.ablations $(ARGS)

bench-lab: $(STAMP) ## The adaptive policy against the fixed ones, over the lab's link.
	@$(BIN)/python -m bench.lab $(ARGS)

bench-thin: $(STAMP) ## Detection over 64 kbit/s: features against every frame codec. ARGS='--source VIDEO'
	@$(BIN)/python -m bench.thin $(ARGS)

bench-overhead: $(STAMP) ## What decisions, codecs and telemetry cost per frame.
	@$(BIN)/python -m bench.overhead $(ARGS)

bench-telemetry: $(STAMP) ## What tracing costs: throughput with none, 10 % and all frames traced.
	@$(BIN)/python -m bench.telemetry $(ARGS)

bench-serving: $(STAMP) ## A worker over NATS against the same work in a bare loop. ARGS='--peers mosec,litserve,ray,pytriton,grpc,nats'
	@$(BIN)/python -m bench.serving $(ARGS)

bench-gateway: $(STAMP) ## What the gateway adds to a frame's time, and two hundred streams through it. ARGS='--seconds 10'
	@$(BIN)/python -m bench.gateway $(ARGS)

bench-decide: $(STAMP) ## What one decision of the adaptive policy costs, by operating points and workers.
	@$(BIN)/python -m bench.decide_cost $(ARGS)

bench-choice: $(STAMP) ## Which worker gets a request: policies on pools of equal and unequal workers, simulated.
	@$(BIN)/python -m bench.choice $(ARGS)

bench-tenants: $(STAMP) ## One tenant at ten times its quota on a real worker, and what the others notice.
	@$(BIN)/python -m bench.serving_tenants $(ARGS)

bench-scheduling: $(STAMP) ## Orders of service on a worker, and one tenant at ten times its quota, on virtual time.
	@$(BIN)/python -m bench.scheduling $(ARGS)

bench-coders: $(STAMP) ## Entropy coders for feature planes: bytes, and time per symbol.
	@$(BIN)/python -m bench.entropy_coders $(ARGS)

bench-track: $(STAMP) ## Carrying answers forward against repeating the last one.
	@$(BIN)/python -m bench.track_fidelity $(ARGS)

bench-codec: $(STAMP) ## Bytes against fidelity of every codec, beside JPEG, WebP, x264; half an hour. ARGS='--images DIR'
	@$(BIN)/python -m bench.codec_rates $(ARGS)

bench-shift: $(STAMP) ## What a moving camera leaves of a cut's features to be sent.
	@$(BIN)/python -m bench.shifted_features $(ARGS)

bench-codec-speed: $(STAMP) ## Codec speed and size on made-up tensors, one thread.
	@$(BIN)/python -m bench.codec_speed $(ARGS)

bench-link: $(STAMP) ## How well the emulated link keeps to its trace.
	@$(BIN)/python -m bench.link_accuracy $(ARGS)

bench-meshload: $(STAMP) ## Does the load tester tell the truth, and how much load does it make? Let nothing else run.
	@$(BIN)/python -m bench.meshload $(ARGS)

bench-meshload-wrk: $(STAMP) ## The load tester beside wrk (apt install wrk), where both can be. ARGS=--realtime, as root
	@$(BIN)/python -m bench.meshload_wrk $(ARGS)

bench-simlab: $(STAMP) ## Does the simulator agree with the lab? Let nothing else run. ARGS='--policies adaptive --links lte'
	@$(BIN)/python -m bench.simlab $(ARGS)

models-report: $(STAMP) ## `splitmesh plan` on real models of many families; an hour or more. ARGS='--only nudenet-320n'
	@$(BIN)/python -m tools.models_report $(ARGS)

docs: $(STAMP) ## Fill the tables in docs/ from the code and from bench/results/.
	@$(BIN)/python tools/doc_tables.py $(ARGS)

clean: ## Remove what these targets made, the environment included.
	rm -rf services/splitmesh/codec/planes/*.so services/splitmesh/policy/numeric/*.so $(VENV) $(DEPLOY_VENV) deploy/compose/state deploy/images/wheelhouse out lab-out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis services/*.egg-info
	find services tools tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
