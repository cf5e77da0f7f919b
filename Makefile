# Everything runs in .venv, which is created by the first target that needs it.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
VENV := $(CURDIR)/.venv
export PATH := $(VENV)/bin:$(PATH)
# The packages are compiled as they are first imported; without bytecode, every start would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

UV := uv pip install --python $(VENV) --no-deps
SETUP := $(VENV)/.installed mlflow.db .dvc/plots/page.html

.PHONY: help setup repro test lint paper jpeg authors table4 table5 mnist frontends ui exps register bench gpu-image clean lock

help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(SETUP) ## Make .venv with the locked versions, the MLflow database and the page of `dvc plots`

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --disable-pip-version-check --no-deps "$$(grep ^uv== requirements.lock)"
	$(UV) -r requirements.lock
	$(UV) --no-build-isolation -e .
	@# The wheel holds only pushpull and common_corruptions; this makes nets, training and the rest importable too.
	echo '$(CURDIR)' > "$$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pushpull-robustness-checkout.pth"
	touch $@

mlflow.db: | $(VENV)/.installed
	python -m stages.tracking

.dvc/plots/page.html: $(VENV)/.installed
	python -m stages.page.dvc_plots

repro: $(SETUP) ## Run the whole pipeline on the data set of params.yaml
	@python -m stages.experiments.repro

test: $(SETUP) ## Run the tests
	@# Three workers for two cores, since some tests wait for a server or another process.
	OMP_NUM_THREADS=1 PYTHONWARNDEFAULTENCODING=1 python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: $(SETUP) ## Check style and format, the types of the packages in the wheel, and the direction of imports
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache

# On another data set `report`, the last stage, is named: without a target, DVC would remove the present results.
PAPER := -S 'data=$${paper.data}' -S 'train=$${paper.train}' -S 'evaluate=$${paper.evaluate}' -S 'nets=$${paper.nets}' \
	-S official.path=null

paper: $(SETUP) ## Run the paper's study at full size (ARGS="-S paper.train.epochs=5", LAUNCHER=ray or ray://HOST:PORT)
	$(if $(LAUNCHER),dvc exp run $(PAPER) $(ARGS) fetch && python -m stages.experiments.launch $(LAUNCHER))
	dvc exp run $(PAPER) $(ARGS) report

JPEG := -S 'data=$${jpeg.data}' -S 'train=$${jpeg.train}' -S 'evaluate=$${jpeg.evaluate}' -S 'nets=$${jpeg.nets}' \
	-S official.path=null

jpeg: $(SETUP) ## Train and measure on a lossy copy of CIFAR-10, a tenth of the paper's schedule (DATA=file, hours on a CPU)
	dvc exp run $(JPEG) $(if $(DATA),-S 'jpeg.data.path=$(DATA)') $(ARGS) report

AUTHORS := -S 'data=$${authors.data}' -S 'official=$${authors.official}' -S 'nets=$${authors.nets}'

authors: $(SETUP) ## Measure only the authors' nets (CHECKPOINTS=folder, DATA=folder with CIFAR-10's batches, else downloaded)
	dvc exp run $(AUTHORS) $(if $(CHECKPOINTS),-S 'authors.official.path=$(CHECKPOINTS)') \
		$(if $(DATA),-S 'authors.data.path=$(DATA)') $(ARGS) report

table4: $(SETUP) ## Study scale and alpha (table 4); DATA=cifar10 for full size, ARGS and LAUNCHER as for paper
table5: $(SETUP) ## Study the learned alpha (table 5); DATA=cifar10 for full size
mnist: $(SETUP) ## Study the LeNets (table 1, figures 4 and 5); DATA=mnist for full size
frontends: $(SETUP) ## Compare front ends in a ResNet-20; DATA=cifar10, or cifar10-jpeg with ARGS="-S jpeg.data.path=FILE"
table4 table5: PUBLISHED_ON := cifar10
mnist: PUBLISHED_ON := mnist
frontends: PUBLISHED_ON := cifar10 cifar10-jpeg
table4 table5 mnist frontends: SIZE = $(if $(filter cifar10-jpeg,$(DATA)),jpeg,paper)
table4 table5 frontends: FULL = -S 'data=$${$(SIZE).data}'
mnist: FULL := -S data.name=mnist
table4 table5 mnist frontends: STUDY = -S 'studies/params.yaml:study=$${$(if $(DATA),paper.)$@}' \
	$(if $(DATA),$(FULL) -S 'train=$${$(SIZE).train}' -S 'evaluate=$${$(SIZE).evaluate}') $(ARGS)
table4 table5 mnist frontends:
	$(if $(filter-out $(PUBLISHED_ON),$(DATA)),$(error $@ is at full size on $(PUBLISHED_ON). Without DATA it runs on the \
		set of params.yaml))
	python -m stages.experiments.choose --pipeline studies $(STUDY)
	$(if $(LAUNCHER),dvc repro fetch && python -m stages.experiments.launch $(LAUNCHER) --pipeline studies)
	dvc repro studies/dvc.yaml

ui: $(SETUP) ## Show the runs in MLflow on 127.0.0.1 (PORT=5000)
	python -m stages.tracking ui --port $(or $(PORT),5000)

exps: $(SETUP) ## List the experiments and the differences between them (ARGS=-A for those of all commits)
	@python -m stages.experiments.listing $(ARGS)

register: $(SETUP) ## Register the best push-pull net in MLflow as champion (ARGS="--experiment NAME")
	python -m stages.tracking register $(ARGS)

bench: $(SETUP) ## Compare the speed of every part with a plain reference (DATA=folder with CIFAR-10's batches to corrupt)
	python -m benchmarks.corruptions $(if $(DATA),--data '$(DATA)')
	for name in metrics perturbations unpack layer training augmentation evaluation tracking; do python -m benchmarks.$$name || exit 1; done

# If this name is not on the path, or does not run: make gpu-image GPU_PYTHON=/path/to/python3.12
GPU_PYTHON ?= python3.12

ifneq ($(filter gpu-image,$(MAKECMDGOALS)),)
$(if $(wildcard $(DATA)/cifar10-jpeg.npz),,$(error gpu-image needs DATA=FOLDER, a folder with cifar10-jpeg.npz))
endif

gpu-image: .venv-gpu/.installed ## Rehearse the GPU measurement with the GPU machine's versions (DATA=folder with cifar10-jpeg.npz)
	OMP_NUM_THREADS=1 .venv-gpu/bin/python -m pytest -q -n 2 tests/pushpull tests/nets tests/benchmarks tests/training tests/cuda
	.venv-gpu/bin/python -m benchmarks.gpu --data $(DATA) --out build/gpu-image --dry-run

.venv-gpu/.installed: benchmarks/gpu/requirements.txt
	@$(GPU_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null || { \
		echo "$(GPU_PYTHON) does not run as Python 3.12, which the GPU machine has and its numpy needs;" \
			"name one: make gpu-image GPU_PYTHON=/path/to/python3.12" >&2; \
		exit 1; }
	$(GPU_PYTHON) -m venv --clear .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

clean: ## Remove data sets, models, predictions and caches; metrics, MLflow's runs and .venv stay
	rm -rf datasets models predictions .dvc/cache .dvc/tmp/pushpull build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

lock: ## Regenerate requirements.lock with the newest versions that pyproject.toml allows
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --upgrade setuptools
	.venv-lock/bin/pip install --quiet '.[dev]'
	.venv-lock/bin/pip freeze --all --exclude pushpull-robustness --exclude pip \
		| sed -E '/^(nvidia-|cuda-|triton)/s/$$/ ; sys_platform == "linux"/' > requirements.lock
	rm -rf .venv-lock build
