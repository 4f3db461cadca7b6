# The entry point to everything. `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
# The queries are checked against the committed description of the schemas, so that building needs no database.
export SQLX_OFFLINE ?= true

# The profile that `make up` runs: dev, or release (slower to build, faster to run).
PROFILE ?= dev
STATE ?= .portolan
target := $(or $(CARGO_TARGET_DIR),target)
bin := $(target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
portolan := $(bin)/portolan
# For instance ARGS="--replicas 2 --port-offset 100".
ARGS ?=
# The environment's USER is whoever is logged in, not a customer: only one given to make counts.
ifneq ($(origin USER),command line)
USER := alice
endif
ROLE ?= customer
FILE ?= data/orders-week.csv
RATE ?= 50
SEED ?= 1
MINUTES ?= 1
CASES ?= 5000

.PHONY: help
help: ## Shows this list.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

##@ The shop on this machine

.PHONY: deps
deps: ## Installs what is missing (Debian, as root), or says what is.
	@scripts/install-deps

.PHONY: build
build: deps ## Builds all programs.
	@cargo build --workspace --bins --profile $(PROFILE)

.PHONY: up
up: build ## Starts everything; DETACH=1 in the background, RESET=1 with empty databases.
	@PORTOLAN_KAFKA_DIR=$$(scripts/kafka-fetch) exec $(portolan) up --state $(STATE) \
	  $(if $(DETACH),--detach) $(if $(RESET),--reset) $(ARGS)

.PHONY: down
down: ## Stops everything.
	@$(portolan) down --state $(STATE)

.PHONY: status
status: ## Shows what runs.
	@$(portolan) status --state $(STATE)

.PHONY: token
token: ## Prints a token: make -s token USER=alice [ROLE=operator].
	@$(portolan) token --state $(STATE) --user $(USER) --role $(ROLE)

.PHONY: seed
seed: ## Loads the catalogue again: raises the stock of every product.
	@$(portolan) seed --state $(STATE)

.PHONY: replay
replay: ## Places the orders of FILE at RATE a second and compares the outcome.
	@$(portolan) replay --state $(STATE) $(FILE) --rate $(RATE) $(ARGS)

.PHONY: audit
audit: ## Checks the invariants over all databases.
	@$(portolan) audit --state $(STATE) $(ARGS)

.PHONY: dlq
dlq: ## Looks after dead letters: make dlq ARGS=list.
	@$(portolan) dlq --state $(STATE) $(ARGS)

.PHONY: faults
faults: build ## Hurts a shop of its own under load by a schedule and audits it; SEED=1 MINUTES=1.
	@PORTOLAN_KAFKA_DIR=$$(scripts/kafka-fetch) exec $(portolan) faults --seed $(SEED) --minutes $(MINUTES) $(ARGS)

# In a directory of their own: these programs never take the place of the usual ones.
.PHONY: faults-systematic
faults-systematic: deps ## Has every program crash at every failpoint, in the life of one order each.
	@cargo build --workspace --bins --features portolan-runtime/failpoints --target-dir $(target)/failpoints
	@PORTOLAN_KAFKA_DIR=$$(scripts/kafka-fetch) exec $(target)/failpoints/debug/portolan faults --systematic $(ARGS)

.PHONY: load
load: ## Puts load on the running shop with k6 and audits it: PROFILE=smoke, average, spike, rate-limit, overload.
	@STATE=$(STATE) scripts/load $(if $(filter file,$(origin PROFILE)),smoke,$(PROFILE)) $(ARGS)

##@ The shop on a cluster

# `make up` runs dev programs, images hold release ones, unless make is told otherwise.
images e2e e2e-quick: export PROFILE := $(if $(filter file,$(origin PROFILE)),release,$(PROFILE))

.PHONY: images
images: ## Builds all container images; TAG, IMAGE_BUILD, IMAGE_LOAD as in scripts/images.
	@scripts/images

.PHONY: e2e
e2e: ## Tests the chart on the cluster of the kubeconfig: everything, about half an hour.
	@scripts/e2e-cluster

.PHONY: e2e-quick
e2e-quick: ## The part of e2e that fits into a quarter of an hour.
	@scripts/e2e-cluster quick

.PHONY: chart-readme
chart-readme: ## Writes the table of values in the chart's README from the comments in values.yaml.
	@scripts/chart readme

.PHONY: chart-goldens
chart-goldens: ## Renders the chart into helm/examples.
	@scripts/chart goldens

.PHONY: chart-schemas
chart-schemas: ## Writes helm/schemas from the API description of the kubeconfig's cluster.
	@scripts/chart schemas

##@ Tests and checks

.PHONY: test
test: ## Runs all tests against a PostgreSQL and a Kafka of their own; ARGS go to cargo test.
	@scripts/test $(ARGS)

.PHONY: fmt
fmt: ## Formats all code.
	@cargo fmt --all

.PHONY: fmt-check
fmt-check: ## Fails if any code is not formatted.
	@cargo fmt --all --check

.PHONY: check
check: ## Type-checks everything.
	@cargo check --workspace --all-targets

.PHONY: lint
lint: ## Runs clippy; any warning fails.
	@cargo clippy --workspace --all-targets -- -D warnings

.PHONY: doc
doc: ## Builds the documentation; any warning fails.
	@RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps

.PHONY: sqlx-prepare
sqlx-prepare: deps ## Writes the description of the schemas that the queries are checked against.
	@scripts/sqlx-prepare

.PHONY: sqlx-check
sqlx-check: deps ## Fails if the committed description is not what the migrations make.
	@scripts/sqlx-prepare --check

.PHONY: proto-lint
proto-lint: ## Lints the contracts, and fails if they break those of main.
	@scripts/proto-lint

.PHONY: contract
contract: build ## Tests the gateway against docs/openapi.json with requests made up from it; CASES=5000 SEED=1.
	@PORTOLAN=$(portolan) scripts/contract $(CASES) $(SEED)

.PHONY: oidc
oidc: build ## Places orders with the tokens of an outside OpenID provider, which is fetched with npm.
	@PORTOLAN=$(portolan) scripts/oidc

.PHONY: deny
deny: ## Checks licences, sources and banned crates of all dependencies.
	@scripts/deny

.PHONY: ci
ci: ## Everything that must hold.
	@.ci/run
