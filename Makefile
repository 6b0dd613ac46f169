# Every target does its own set-up; a fresh machine needs Python >= 3.11, make, and nothing else.
PYTHON  ?= python3
PROFILE ?= standard
ARGS    ?=
BIN     := .venv/bin
STAMP   := .venv/installed

.PHONY: help reproduce test campaign lint bench lab lock clean

help:  ## show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

reproduce: $(STAMP)  ## regenerate every table and figure (PROFILE=smoke|quick|standard|paper, ARGS="--only section54")
	$(BIN)/gadam reproduce --profile $(PROFILE) $(ARGS)

test: $(STAMP)  ## the tests, and every notebook in profile smoke (nbval)
	$(BIN)/gadam reproduce --profile smoke --runs-only  # once, by as many processes as there are cores: notebooks read them
	$(BIN)/pytest -n 2 --dist loadfile --nbval --nbval-kernel-startup-timeout 600 tests notebooks $(ARGS)

campaign: $(STAMP)  ## 50 kills an executor and 1,000 damaged files a kind, into reports/out/campaign (GADAM_KILLS, GADAM_DAMAGED)
	GADAM_KILLS=$${GADAM_KILLS:-50} GADAM_DAMAGED=$${GADAM_DAMAGED:-1000} $(BIN)/pytest -v \
		--junitxml=$${GADAM_REPORTS:-reports/out}/campaign/campaign.xml tests/evolution/test_killed.py \
		tests/evolution/test_damaged.py tests/datasets/test_files.py::test_whatever_the_damage_it_is_refused_in_one_line $(ARGS)

lint: $(STAMP)  ## formatter, linter, type checker, stripped notebooks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify notebooks/*.ipynb notebooks/guide/*.ipynb

bench: $(STAMP)  ## time training beside PyTorch, joblib and JAX (ARGS="--workload orl --units 1,10")
	$(BIN)/python tests/benchmarks $(ARGS)

lab: $(STAMP)  ## JupyterLab on copies of the notebooks, in reports/out/lab (remove one there to get it anew)
	@mkdir -p reports/out/lab && cp -Rn notebooks/. reports/out/lab/ || true
	$(BIN)/jupyter lab --notebook-dir=reports/out/lab

lock: $(STAMP)  ## resolve pyproject.toml into requirements.lock again
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras \
		--upgrade --quiet pyproject.toml --output-file requirements.lock

clean:  ## remove the virtual environment (not data, runs or reports)
	rm -rf .venv

# The stamp is written last, so an interrupted installation starts again. The package itself is built by the locked
# hatchling, without build isolation: everything that is installed has a hash in requirements.lock.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "gadam needs Python >= 3.11; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
