# The recipes of this project. `make help` lists them; the work is done by the scripts in .ci/.
# Tools that are installed for this project alone come first on PATH.
export PATH := $(CURDIR)/target/tools/bin:$(CURDIR)/end2end/node_modules/.bin:$(PATH)
SHELL := bash
DATA ?= data/demo
.DEFAULT_GOAL := help
.PHONY: help run build test lint unit e2e torture wall

help: ## This list
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-11s %s\n", $$1, $$2}'

run: ## Install what is missing, build, start the demo (FRESH=1: with an empty demo; ARGS=… for `shouyin demo`)
	@bash .ci/install.sh run
	@bash .ci/build.sh
	@$(if $(filter 1,$(FRESH)),rm -rf "$(DATA)")
	@exec target/release/shouyin demo --data "$(DATA)" $(ARGS)

build: ## Only build target/release/shouyin with its site
	@bash .ci/install.sh run
	@bash .ci/build.sh

test: ## Every check: format, lints, unit, integration, browser, judges; installs what is missing
	@bash .ci/test.sh

lint: ## Only format, lints, licences, docs
	@bash .ci/install.sh lint
	@bash .ci/lint.sh

unit: ## Only cargo test
	@cargo test

e2e: ## Only the browser tests and the judges, with the binary as built (ONLY=pay: one file)
	@bash .ci/e2e.sh $(ONLY)

torture: build ## Break it for an hour or more: 1,000 kills, 1,000,000 seeds (ARGS=… for `shouyin torture`)
	@target/release/shouyin torture --long $(ARGS)

wall: ## Photograph every state into end2end/results/wall/index.html (ARGS=--docs: the README's pictures, too)
	@node end2end/wall.mjs $(ARGS)
