# The commands of every day. `make` alone lists them; each runs in the environment that is active.
.DEFAULT_GOAL := help
.PHONY: help setup check lint types format test fast docs wheel quickstart board tiny-world-models

help:               ## this list
	@awk -F ':|## ' '/^[a-z-]+:.*## / {printf "%-20s%s\n", $$1, $$NF}' $(MAKEFILE_LIST)

setup:              ## install the package to work on it, and the checks that run before each commit
	pip install -e '.[dev]'
	pre-commit install

check: lint types docs test   ## everything that CI checks

lint:               ## style of the code and its layout
	ruff check .
	ruff format --check .

types:              ## types of the code and its tests
	mypy

format:             ## mend layout, and what of the style can be mended
	ruff format .
	ruff check --fix .

test:               ## all tests; those of real data skip unless $SOUL_DATA names a folder
	python -m pytest

fast:               ## the tests that take no more than a few seconds each
	python -m pytest -m "not slow and not real"

docs:               ## the documentation as a site, in site/
	mkdocs build --strict

wheel:              ## the package as it is published, in dist/
	python -m build

quickstart:         ## unlearn in the embedded world, half a minute
	soul-lightning fit --config quickstart

board:              ## the curves of all runs, in a browser
	tensorboard --logdir runs

tiny-world-models:  ## train the models that come with the package anew
	python -m soul_lightning.cli.rebuild_tiny_world
