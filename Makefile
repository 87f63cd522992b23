# Everything runs in .venv, which scripts/setup makes on first use.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONDONTWRITEBYTECODE # compiled modules are kept: a stage is a process of its own

.PHONY: help setup demo test check format lock serve bench-sims bench-demonstrators bench-tabular bench-posterior bench-kinds bench-spread bench-sweeps bench-spacing bench-pretrain bench-finetune bench-baselines bench-demos bench-robot bench-kills bench-sim-to-robot reproduce-quick clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## .venv with what requirements.lock says (a second time: nothing to do)
	@scripts/setup

data/lift: | setup # DVC itself refuses, or with --force deletes, files under data/ that were not added yet
	dvc pull data/lift

demo: setup data/lift ## the default pipeline: demonstrations in, registered robot policies and reports/index.html out
	dvc repro
	@python -m stages.report --table

serve: setup ## MLflow, Prefect and the deployments on this machine, until Ctrl-C
	python -m flows.serve

test: setup ## the tests
	python -m pytest -n logical --maxprocesses 4 --dist loadfile

check: setup ## formatter, linter, types, import layers, sizes, lock
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	scripts/lock --check
	python scripts/configuration --check

format: setup ## let ruff rewrite
	ruff format .
	ruff check --fix .

lock: setup ## resolve pyproject.toml into requirements.lock
	scripts/lock

bench-sims: setup ## how fast tasks step here: a table, and benchmarks/results/sims.json
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python -m benchmarks.sims # one core means one core

bench-demonstrators: setup ## who demonstrates how well and how differently: a table, and benchmarks/results/demonstrators.json
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.demonstrators

bench-tabular: setup ## coverage and return in the tabular case: a table, benchmarks/results/tabular.json and docs/figures/tabular.png
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.tabular

bench-posterior: setup ## what a posterior of 100 members costs: a table, and benchmarks/results/posterior.json
	python -m benchmarks.posterior

bench-kinds: setup ## the ensemble beside the closed form, on three tasks (10 minutes): a table, and benchmarks/results/kinds.json
	python -m benchmarks.kinds

bench-spread: setup ## the posterior's spread against the number of demonstrations: a table, benchmarks/results/spread.json, docs/figures/spread.png
	python -m benchmarks.spread

bench-sweeps: setup ## what training length and α do to a policy (1 hour, resumable): tables, and benchmarks/results/sweeps.jsonl
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.sweeps

bench-spacing: setup ## what the spacing of a sampler's steps does to a policy (1 hour, resumable): a table, and benchmarks/results/spacing.jsonl
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.spacing

reproduce-quick: setup ## the paper's comparison (2 hours, resumable): benchmarks/results/reproduce.jsonl; PUSHT=path adds PushT
	trap 'kill 0' INT TERM; for part in 0/2 1/2; do \
	  OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.reproduce --part $$part $(if $(PUSHT),--pusht $(PUSHT)) & \
	done; wait
	python -m benchmarks.claims

bench-pretrain: setup data/lift ## how fast a policy trains and samples, beside LeRobot's: a table, and benchmarks/results/pretrain.json
	python -m benchmarks.pretrain

bench-finetune: setup ## how fast finetuning learns and plays, beside stable-baselines3: tables, and benchmarks/results/finetune.json
	python -m benchmarks.finetune

bench-baselines: setup ## stable-baselines3's PPO and SAC in the comparison's settings (1 hour, resumable): benchmarks/results/baselines.jsonl
	python -m benchmarks.baselines $(if $(PUSHT),--pusht $(PUSHT))

bench-demos: setup ## how fast demonstrations go in, out and into batches, with how much memory: tables, and benchmarks/results/demos.json
	python -m benchmarks.demos

bench-robot: setup ## how well the control rate is kept while learning (6 minutes): a table, and benchmarks/results/robot.json
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.robot

bench-kills: setup ## 500 robot sessions whose processes are killed (15 minutes): a table, and benchmarks/results/kills.json
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -W ignore::DeprecationWarning -m benchmarks.kills --keep

bench-sim-to-robot: setup ## from simulation to a twin (1 hour, resumable): a table, and benchmarks/results/sim_to_robot.jsonl
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.sim_to_robot

clean: ## remove what runs leave behind, not what DVC or MLflow keep, nor what a robot has gone through
	@for path in .work/* .work/checkpoints/*; do \
	  case $$path in .work/robot|.work/checkpoints|.work/checkpoints/finetune_robot.*) ;; *) rm -rf "$$path" ;; esac; done
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
