# SPDX-License-Identifier: BSD-2-Clause
# A thin front for `diptych`, pytest and the linters. Every target sets up .venv when it needs to.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The interpreter that creates .venv, and the number of tests at a time.
PYTHON ?= python3
JOBS ?= 2
# What make sim runs; empty means the command's own default.
PROMPT ?=
TOKENS ?=
MODEL ?=
MESH ?=
ARRAY ?=
ENGINE ?=
OUT ?=
# Cycles and blocks that make waves records.
FROM ?=
TO ?=
BLOCKS ?=
# The block that make tb tests, and whether its slow tests run, too.
BLOCK ?=
SLOW ?=
# Faults that make mutants plants, the seed that chooses them, and seconds for the tests of each.
N ?= 50
SEED ?= 1
LIMIT ?= 120
# Further options, as they are.
ARGS ?=

# Relative, so that the project may live in a path with spaces.
BIN := .venv/bin
READY := .venv/.ready
DEV := .venv/.ready-dev
DOCS := .venv/.ready-docs

# Variables go to the command through the environment, so that no prompt is read as shell.
export PROMPT TOKENS MODEL MESH ARRAY ENGINE OUT FROM TO BLOCKS BLOCK N SEED LIMIT
options = $(if $(PROMPT),--prompt "$$PROMPT") $(if $(TOKENS),--tokens "$$TOKENS") \
	$(if $(MODEL),--model "$$MODEL") $(if $(MESH),--mesh "$$MESH") \
	$(if $(ARRAY),--array "$$ARRAY") $(if $(ENGINE),--engine "$$ENGINE") \
	$(if $(OUT),--out "$$OUT") $(ARGS)

.PHONY: help setup sim sim-prefill sim-decode smollm2 quadrants report waves test test-slow tb mutants lint format docs verilog silicon \
	model bench clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Variables of the sim targets: PROMPT TOKENS MODEL MESH ARRAY ENGINE OUT ARGS, for example'
	@echo '  make sim PROMPT="The sea" TOKENS=32 MESH=8x8 ARRAY=16x16'

setup: $(DEV) ## Create .venv with the package, the diptych command and the development tools

define bare_venv
@command -v g++ >/dev/null || { echo 'error: g++ not found: install a C++ compiler' >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo 'error: $(PYTHON) must be Python 3.11 or newer' >&2; exit 1; }
@test -x $(BIN)/python || $(PYTHON) -m venv .venv
endef
pip_install := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(READY): pyproject.toml
	$(bare_venv)
	@echo 'Setting up .venv ...' >&2
	@$(pip_install) -e .
	@touch $@

$(DEV): $(READY)
	@echo 'Adding the development tools to .venv ...' >&2
	@$(pip_install) -e '.[dev]'
	@touch $@

$(DOCS): $(READY)
	@$(pip_install) -e '.[docs]'
	@touch $@

sim: $(READY) ## Write text: prefill, KV link and decode, all in RTL
	@$(BIN)/diptych generate $(options)

sim-prefill: $(READY) ## The same, prompt only
	@$(BIN)/diptych generate --stage prefill $(options)

sim-decode: $(READY) ## The same, with the KV cache from the golden model
	@$(BIN)/diptych generate --stage decode $(options)

quadrants: $(READY) ## Each phase on each panel, and requests on one panel alone and split (MODEL TOKENS MESH ARRAY)
	@$(BIN)/diptych quadrants $(if $(MODEL),--model "$$MODEL") $(if $(TOKENS),--tokens "$$TOKENS") \
		$(if $(MESH),--mesh "$$MESH") $(if $(ARRAY),--array "$$ARRAY") $(if $(ENGINE),--engine "$$ENGINE") \
		$(if $(OUT),--out "$$OUT") $(ARGS)

smollm2: $(READY) ## SmolLM2-135M whole: a chat (PROMPT), both panels and the link, TOKENS tokens
	@$(BIN)/diptych generate --model smollm2 --chat --array 32x32 --mesh auto --max-tiles 4608 \
		--sram-bytes 49152 --engine lanes --weights preloaded --no-trace \
		--prompt "$(if $(PROMPT),$$PROMPT,What is the capital of France?)" \
		--tokens "$(if $(TOKENS),$$TOKENS,8)" $(if $(OUT),--out "$$OUT") $(ARGS)

report: $(READY) ## The same as sim, into OUT (build/run unless set), and its report as HTML
	@$(BIN)/diptych generate $(options) $(if $(OUT),,--out build/run)
	@$(BIN)/diptych report $(if $(OUT),"$$OUT",build/run)

waves: $(READY) ## The same, recording build/waves/diptych.fst and save files for GTKWave and Surfer
	@mkdir -p build/waves
	@$(BIN)/diptych generate --waves build/waves/diptych.fst $(if $(FROM),--from "$$FROM") \
		$(if $(TO),--to "$$TO") $(if $(BLOCKS),--wave-blocks "$$BLOCKS") $(options)

# A test on each core; numbers of threads in each would only wait for each other.
test test-slow tb mutants: export OPENBLAS_NUM_THREADS ?= 1

test: $(DEV) ## Run the tests, except the slow ones
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m 'not slow' $(ARGS)

test-slow: $(DEV) ## Run the slow tests
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m slow $(ARGS)

tb: $(DEV) ## Run the tests of one block, BLOCK=router; SLOW=1 adds the slow ones
	@$(BIN)/python tests/support/blocks.py "$$BLOCK" -v -n $(JOBS) $(if $(SLOW),,-m 'not slow') $(ARGS)

# A fault at a time, unless JOBS=2 says otherwise.
mutants: JOBS = 1
mutants: $(DEV) ## Plant N=50 random faults in BLOCK=router, SEED=1; print those that its tests do not see
	@PYTHONPATH=tests $(BIN)/python -m support.mutants "$$BLOCK" "$$N" "$$SEED" "$$LIMIT" $(JOBS)

lint: $(DEV) ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: $(DEV) ## Format the sources and apply the safe fixes
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

docs: $(DOCS) ## Write the documentation as HTML to build/docs, with API and ISA pages
	@$(BIN)/python docs/site/build.py build/docs
	@echo build/docs/index.html

verilog: $(READY) ## Write the Verilog of both panels to build/verilog
	@$(BIN)/diptych verilog --out build/verilog $(if $(MESH),--mesh "$$MESH") \
		$(if $(ARRAY),--array "$$ARRAY") $(ARGS)

silicon: $(DEV) ## Clock and area of BLOCK=router, or of all blocks, on an ECP5
	@$(BIN)/diptych silicon $(if $(BLOCK),--block "$$BLOCK") $(ARGS)

model: $(READY) ## Train the bundled model again (installs torch)
	@$(pip_install) -e '.[train]'
	@$(BIN)/python -m diptych_sim.train $(ARGS)

bench: $(READY) ## Measure build time and simulation speed
	@$(BIN)/diptych bench $(ARGS)

clean: ## Remove what was built
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	@find rtl sim tb tests examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove .venv as well
	@rm -rf .venv
