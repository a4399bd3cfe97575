# Everything is done in .venv, which every target makes first. `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help install postgres vllm demo test e2e kafka test-kafka triton test-engines test-alerts test-prometheus chart test-chart test-image test-trl bench-ingest bench-generation bench-ppo bench-scoring bench-swap bench-overload fuzz-ingest chaos-kafka lint types imports protos protos-check

PYTHON ?= python3
VENV := .venv
# The marks of tests that need a part which has a tier of its own.
WITHOUT_PARTS := not chart and not image and not kafka and not prometheus and not triton and not trl and not vllm
BIN := $(VENV)/bin
# TRL has an environment of its own, so that it changes nothing here; what .venv has it takes from there.
TRL := .cache/trl
PURELIB := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
ARGS ?=
# Programs that tests need are made before them, and not in the time that a test has.
MADE = PYTHONPATH=tests:deploy/kafka $(BIN)/python
# Idle threads of one torch process must not spin while another works.
QUIET := OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 TOKENIZERS_PARALLELISM=false

help: ## List the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Attune needs Python 3.11 or newer; say make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(TRL)/installed: $(VENV)/installed
	$(BIN)/python -m venv $(TRL)
	echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" > $$($(TRL)/bin/python $(PURELIB))/beside.pth
	$(TRL)/bin/python -m pip install --quiet --editable '.[trl]'
	touch $@

install: $(VENV)/installed ## Install Attune and its tools into .venv.

vllm: install ## Make the environment in which the policy server runs on vLLM: 6 GB under ~/.cache/attune/vllm.
	$(BIN)/python deploy/vllm/installation.py

demo: install $(if $(findstring --engine vllm,$(ARGS)),vllm) ## Watch a language model get better, end to end; ARGS="--seed 1" passes flags on.
	$(QUIET) $(BIN)/attune demo $(ARGS)

postgres: install ## Install PostgreSQL for tests, where it is missing and this user may.
	$(BIN)/python tests/support/postgres.py

test: install postgres ## The fast tests.
	$(QUIET) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow and $(WITHOUT_PARTS)" $(ARGS)

e2e: install ## The tests that train or run real processes for minutes.
	$(QUIET) $(BIN)/python -m pytest -q -m "slow and $(WITHOUT_PARTS)" $(ARGS)

kafka: install ## Run an Apache Kafka broker on 127.0.0.1:9092; ARGS=--secured: with TLS only.
	$(BIN)/python deploy/kafka/broker.py run $(ARGS)

test-kafka: install postgres ## The tests that need a real Kafka broker or a real PostgreSQL.
	$(QUIET) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "kafka or postgres" $(ARGS)

test-trl: $(TRL)/installed ## The trainer beside TRL's, on the same tensors.
	$(QUIET) OMP_NUM_THREADS=1 $(TRL)/bin/python -m pytest -q -m trl tests/integration/beside_trl $(ARGS)

triton: install ## Run a Triton Inference Server on 127.0.0.1:8001, for attune reward --set engine=triton.
	$(BIN)/python deploy/triton/triton_server.py run $(ARGS)

test-engines: install vllm ## The tests that drive real model servers: vLLM, Triton.
	$(BIN)/python deploy/triton/triton_server.py fetch
	$(QUIET) $(BIN)/python -m pytest -q -m "vllm or triton" $(ARGS)

test-alerts: install ## Rules, dashboards and runbooks: each alert fires and stays quiet; needs Go for promtool.
	$(MADE) -m support.prometheus
	$(QUIET) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 tests/alerts $(ARGS)

test-prometheus: install ## A real Prometheus beside attune up: nothing fires at rest, what is provoked does; needs Go.
	$(MADE) -m support.prometheus
	$(QUIET) $(BIN)/python -m pytest -q -m "slow and prometheus" $(ARGS)

chart: install ## Make schema and README of the Helm chart from its values, and copy rules and dashboards into it.
	$(BIN)/python charts/generate.py

test-chart: install ## The Helm chart: lint, unit tests, value sets against schemas, drift; needs Go 1.26.
	$(MADE) -m support.helm
	$(BIN)/python charts/generate.py --check
	$(BIN)/python -m pytest -q -n 2 -m chart $(ARGS)

test-image: install ## Build both images and run every service of them; needs root. ARGS="-k 'not full'": slim alone.
	$(BIN)/python tests/support/images.py
	$(BIN)/python -m pytest -q -m image $(ARGS)
	$(BIN)/python tests/support/images.py sizes

bench-ingest: install postgres ## What ingest and join take for a core-second; ARGS="--help" tells the options.
	$(BIN)/python tests/benchmarks/ingest.py $(ARGS)

bench-ppo: $(TRL)/installed ## Response tokens a second of whole PPO iterations, against TRL's trainer.
	$(QUIET) $(BIN)/python tests/benchmarks/ppo.py --trl $(TRL)/bin/python $(ARGS)

bench-scoring: install ## Pairs a second against a real Triton; ARGS="--help" tells the options.
	$(QUIET) $(BIN)/python tests/benchmarks/scoring.py $(ARGS)

bench-swap: install ## Swaps every 5 s under 64 live streams; ARGS="--seconds 30" makes it short.
	$(QUIET) $(BIN)/python tests/benchmarks/swap.py $(ARGS)

bench-overload: install ## Ten times what a policy server can do, and cancelled streams; ARGS="--help" tells the options.
	$(QUIET) $(BIN)/python tests/benchmarks/overload.py $(ARGS)

bench-generation: install ## Tokens a second against transformers and vLLM; ARGS="--peer transformers" leaves one out.
	$(QUIET) $(BIN)/python tests/benchmarks/generation.py $(ARGS)

fuzz-ingest: install ## 100,000 malformed requests over gRPC and HTTP; ARGS="--requests 1000" makes it short.
	PYTHONPATH=tests:deploy/kafka $(BIN)/python -m fuzz.ingest $(ARGS)

chaos-kafka: install ## Feedback while ingest, join and broker are killed; ARGS="--help" tells the options.
	PYTHONPATH=tests:deploy/kafka $(BIN)/python -m chaos.feedback $(ARGS)

lint: install ## Style of the code.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## Types.
	$(BIN)/mypy

imports: install ## Import rules.
	$(BIN)/lint-imports

protos: install ## Generate services/attune/api from protos.
	$(BIN)/python protos/generate.py

protos-check: install ## Fail if generated code is stale or the protos are not clean.
	$(BIN)/python protos/generate.py --check
