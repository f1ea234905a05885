# VantageEdge: every task of a developer. `make` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
PY := .venv/bin/python
TESTS ?= tests

.PHONY: help demo dev seed migrate test test-unit test-integration test-system test-coverage lint types rules fmt fuzz bench bench-quick bench-flame bench-limits load-test clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile

demo: ## Start everything on this machine: console 8080, edge 8000 (Ctrl-C ends it)
	@scripts/bootstrap demo
	@exec $(PY) -m devstack.launcher

dev: ## The same, and processes restart when a source file changes
	@scripts/bootstrap demo
	@exec $(PY) -m devstack.launcher --reload

seed: ## Put the demo tenant into the running demo again
	@exec $(PY) -m devstack.seed

migrate: ## Bring the database of MIGRATION_DATABASE_URL (or the running demo's) to the newest schema
	@exec $(PY) -m devstack.launcher --migrate

test: ## Everything CI runs: lint, types, import rules, all tests
	@scripts/bootstrap test
	@$(MAKE) lint types rules
	@scripts/pure-coverage
	@scripts/run-tests $(TESTS)

test-unit: ## The pure half by its own tests, every branch (seconds)
	@scripts/bootstrap test
	@exec scripts/pure-coverage

test-integration: ## Tests on real PostgreSQL, Valkey and sockets, without the whole demo and the browser
	@scripts/bootstrap test
	@exec $(PY) -m pytest -q -m "not system and not browser" tests

test-system: ## Tests that start the product's real processes
	@scripts/bootstrap test
	@exec $(PY) -m pytest -q -m system tests

test-coverage: ## All tests with branch coverage; a report in htmlcov/
	@scripts/bootstrap test
	@exec $(PY) -m pytest -q --cov=contracts --cov=edge --cov=webapp --cov=worker --cov-branch --cov-report=term-missing:skip-covered --cov-report=html tests

lint: ## Ruff: rules and format
	@$(PY) -m ruff check . && $(PY) -m ruff format --check --quiet .

types: ## mypy, strict
	@$(PY) -m mypy

rules: ## The import rules of ARCHITECTURE.md
	@out=$$(PYTHONPATH=. .venv/bin/lint-imports 2>&1) || { echo "$$out"; exit 1; }

fmt: ## Format, and mend what ruff can mend
	@scripts/bootstrap test
	@$(PY) -m ruff check --fix-only --quiet . ; $(PY) -m ruff format --quiet .

fuzz: ## Fuzz the HTTP parser beside two others, and signatures (FUZZ_RUNS inputs, 1000000 where not set: minutes)
	@scripts/bootstrap fuzz
	@exec $(PY) -m tests.fuzz

bench: ## What a request costs beside nginx, HAProxy, Varnish, Caddy, Envoy, Traefik (docs/performance.md)
	@scripts/bootstrap bench
	@exec $(PY) -m bench

bench-quick: ## The same in two minutes, for before and after a change: costs beside Envoy and nginx
	@scripts/bootstrap bench
	@exec $(PY) -m bench --quick

bench-flame: ## Where a worker's time goes under the full chain (docs/flame-full-chain.svg)
	@scripts/bootstrap bench
	@exec $(PY) -m bench.flame

bench-limits: ## Whether limits hold over four workers, also while Redis dies, and what they cost (8 minutes)
	@scripts/bootstrap bench
	@exec $(PY) -m bench.limits

load-test: ## Load on the running demo's edge
	@scripts/bootstrap test
	@exec $(PY) -m bench.load

clean: ## Remove .devstack (databases, secrets, logs of the demo) and caches; .venv stays
	@rm -rf .devstack .pytest_cache .mypy_cache .ruff_cache .import_linter_cache htmlcov .coverage
