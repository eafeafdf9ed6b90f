# `make run` and `make test` are all the set-up there is: each creates .venv, installs, and goes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint protos format clean help

help:
	@echo "make run     train on five workers of this machine (ARGS=... are passed to neurofed run)"
	@echo "make test    run the tests"
	@echo "make lint    format check, lint, types, import contracts, protos"
	@echo "make protos  generate neurofed/v1 from proto/"
	@echo "make format  format the code"

.venv/run: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

.venv/dev: .venv/run
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev,docker]"
	@touch $@

.venv/interop: .venv/dev
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[interop]"
	@touch $@

run: .venv/run
	$(BIN)/neurofed run $(ARGS)

test: .venv/dev
	$(BIN)/pytest $(ARGS)

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: .venv/dev
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. --mypy_out=. --mypy_grpc_out=. proto/neurofed/v1/*.proto
	rm neurofed/v1/records_pb2_grpc.py*

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
