# `make demo` and `make test` need only Python, pip and make; they install the rest into .venv.
PYTHON ?= python3
BIN := .venv/bin
DEMO_ARGS ?=
LINE_ARGS ?=
TEST_PROCESSES ?= 3

.PHONY: setup demo line station test lint test-slow docs constraints clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e ".[train,int8,openvino,report,station,qualify,pdf,modbus,opcua,s7,ray,dev,docs]"
	touch $@

demo: setup
	$(BIN)/blemish demo --out demo $(DEMO_ARGS)

# Fake camera, station and simulated PLC inspect parts together; the last line compares what both have.
line: setup
	$(BIN)/python -m blemish.station.line.demo --out demo/line-demo $(LINE_ARGS)

# The station with the demo's bundle and its annotated images; more images arrive in a watched folder.
station: setup
	test -f demo/run/run.blemish || $(BIN)/blemish demo --out demo $(DEMO_ARGS)
	test -d demo/more || $(BIN)/blemish synth demo/more --seed 1 --train 1 --good 30 --defects 3
	test -d demo/line || { mkdir demo/line; for file in demo/more/test/*/*.png; do \
		cp $$file demo/line/$$(basename $$(dirname $$file))-$$(basename $$file); done; }
	$(BIN)/blemish serve --bundle demo/run --data demo/station --images demo/data --known demo/data --watch demo/line

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test-slow: setup
	$(BIN)/pytest -m slow

# The generated parts of docs/ (method pages, benchmark tables), then the site in build/site, which opens from disk.
docs: setup
	$(BIN)/python benchmarks/pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# After a change of the dependencies in pyproject.toml.
constraints:
	$(BIN)/uv pip compile --quiet --all-extras --python-version 3.11 --no-header --no-annotate pyproject.toml -o constraints.txt

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache
