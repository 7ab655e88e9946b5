# From raw scans to Table 1 and the figures. `make` alone lists the targets.
#
# Every stage is a real file target, so an interrupted `make` continues where it stopped:
#   raw scans -> data/NAME/index.csv -> results/NAME/LOSS/seedK/summary.json -> .../evaluation.csv -> report.html

# The paper's protocol; change any on the command line, e.g. make wmh EPOCHS=5 WIDTH=8
LOSSES   ?= boundary gdl gdl+boundary
SEEDS    ?= 0 1
EPOCHS   ?= 200
# DIMS=3: patches of volumes; wmh and isles become wmh-dims3 and isles-dims3, give another NAME to custom. PATCH="slices rows columns"
DIMS     ?=
PATCH    ?=
NETWORK  ?= $(if $(filter 3,$(DIMS)),unet3d,unet)
WIDTH    ?= 64
SIZE     ?= 256
PROTOCOL ?= paper
SCHEDULE ?=
BATCH    ?=
# DEVICE: several, as in DEVICE="cuda:0 cuda:1" JOBS=2, are dealt to the runs. GPUS: processes, one per GPU, that train each run
DEVICE   ?= auto
GPUS     ?=
# JOBS: runs side by side. THREADS: CPU threads of each (all when empty). SUBJECTS, VAL, SPLIT,
# PATIENTS: see preprocess.py --help
JOBS     ?= 1
THREADS  ?=
# yes: bit-identical runs on a GPU too, see main.py --help
DETERMINISTIC ?=
SUBJECTS ?=
VAL      ?=
SPLIT    ?=
PATIENTS ?=
RAW      ?= data/raw
LAYOUT   ?= wmh
# The distance map (see preprocess.py --help); make sweep: the constants, and the other ways for alpha to go, with the steps of
# SCHEDULE's, the switch where alpha passes 0.5 if it reaches its floor half way
CONVENTION ?=
UNIT       ?= $(if $(filter 3,$(DIMS)),mm)
MAP_DIMS   ?= $(filter 3,$(DIMS))
COMPARE    ?= gdl ce dice focal hausdorff
ALPHAS     ?= 0.1 0.25 0.5 0.75 0.9
STRATEGIES ?= increase$(patsubst rebalance:%,%,$(filter rebalance:%,$(SCHEDULE))) switch$(shell expr $(EPOCHS) / 4)
# FETCH= never uses the network. OBSERVERS=yes fetches two further raters, ANY_MD5=yes takes zips packed again: scans.download --help
FETCH     ?= yes
OBSERVERS ?=
SERVER    ?=
ANY_MD5   ?=

# Paths are taken as they are given, "$" included, and quoted for the shell
$(foreach name,RAW SPLIT PATIENTS,$(eval override $(name) := $$(value $(name))))
quote = '$(subst ','\'',$(1))'

.DEFAULT_GOAL := help
.SUFFIXES:
.PHONY: help setup demo wmh isles custom sweep ablation compare verify status table figures claims test coverage mutants soak fuzz bench lint \
	clean runs chain scored FORCE

# ---- Environment: built once per machine and set of requirements, outside the clone; .venv links to it ---------------
PYTHON ?= python3
REQUIREMENTS := requirements.txt requirements-dev.txt constraints.txt
ENVS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/boundary-loss
ENV  := $(ENVS)/env-$(shell cat $(REQUIREMENTS) | $(PYTHON) -c "import hashlib, sys; \
	print(hashlib.sha256(sys.stdin.buffer.read() + sys.version.encode()).hexdigest()[:12])")
# PY=python3 uses an interpreter that has the packages already, and skips the set-up
ifeq ($(origin PY),undefined)
PY    := .venv/bin/python
READY := setup
endif

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Variables: LOSSES SEEDS EPOCHS NETWORK WIDTH SIZE BATCH DIMS PATCH PROTOCOL SCHEDULE DEVICE GPUS JOBS THREADS"
	@echo "             DETERMINISTIC SUBJECTS VAL SPLIT PATIENTS CONVENTION UNIT MAP_DIMS ALPHAS STRATEGIES COMPARE PY"
	@echo "  For wmh and isles also: RAW ANY_MD5; for wmh: FETCH (empty: no network) OBSERVERS SERVER"

setup: $(ENV)/complete ## build the Python environment from requirements.txt (skipped when it is current)
	@[ -L .venv ] || [ ! -e .venv ] || { echo "error: .venv: expected a link, found a folder. Remove it." >&2; exit 2; }
	@[ "$$(readlink .venv)" = "$(ENV)" ] || ln -sfn "$(ENV)" .venv

$(ENV)/complete:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "error: $(PYTHON): expected Python 3.11 or newer. Give one with PYTHON=/path/to/python3." >&2; exit 2; }
	@mkdir -p "$(ENVS)"
	@echo "building the environment in $(ENV) (once; several GB where torch comes with CUDA)"
	@$(if $(shell command -v flock),flock "$(ENVS)/lock") sh -c '[ -e "$@" ] || { $(PYTHON) -m venv "$(ENV)" && \
		"$(ENV)/bin/python" -m pip install --disable-pip-version-check \
		$(foreach file,requirements.txt requirements-dev.txt,-r $(file)) -c constraints.txt && touch "$@"; }'

# ---- What people run -------------------------------------------------------------------------------------------------
given = $(if $(filter command environment,$(firstword $(origin $(1)))),$($(1)),$(2))
DEMO := EPOCHS="$(call given,EPOCHS,30)" WIDTH="$(call given,WIDTH,8)" BATCH="$(call given,BATCH,4)" \
	SIZE="$(call given,SIZE,96)" JOBS="$(call given,JOBS,2)" THREADS="$(call given,THREADS,1)" SUBJECTS= VAL= SPLIT= PATIENTS=

demo: $(READY) ## the whole chain on a small phantom, on the CPU, in minutes
	$(PY) -m scans.phantom --layout wmh --subjects 18 --out data/phantom/wmh
	$(PY) -m scans.phantom --layout isles --subjects 24 --out data/phantom/isles
	+$(MAKE) --no-print-directory chain NAME=phantom-wmh LAYOUT=wmh RAW=data/phantom/wmh $(DEMO)
	+$(MAKE) --no-print-directory chain NAME=phantom-isles LAYOUT=isles RAW=data/phantom/isles $(DEMO)
	$(PY) report.py --runs results/phantom-wmh results/phantom-isles --out results/demo

# The name becomes a folder and a make target
NAME_OK := $(if $(NAME),$(shell printf %s '$(subst ','\'',$(NAME))' | grep -xE '[A-Za-z0-9][A-Za-z0-9._+-]*'))

SUFFIX := $(if $(filter code2018,$(PROTOCOL)),-code2018)$(if $(filter 3,$(DIMS)),-dims3)
$(if $(and $(filter code2018,$(PROTOCOL)),$(filter 3,$(DIMS))),$(error DIMS: expected 2 with PROTOCOL=code2018, whose maps are \
	those of slices, found 3))
wmh isles: $(READY)
wmh: ## WMH 2017 by the paper's protocol; fetches the scans unless they or the challenge's zips are in data/raw
	@$(PY) -m scans.download --layout wmh --raw=$(call quote,$(RAW)) $(if $(filter-out no 0,$(FETCH)),--fetch) $(if $(OBSERVERS),--observers) \
		$(if $(SERVER),--server=$(call quote,$(SERVER))) $(if $(ANY_MD5),--any-md5)
	+@$(MAKE) --no-print-directory chain NAME=wmh$(SUFFIX) LAYOUT=wmh RAW=$(call quote,$(RAW))

isles: ## ISLES 2018 by the paper's protocol; the scans or the challenge's zip in data/raw
	@$(PY) -m scans.download --layout isles --raw=$(call quote,$(RAW)) $(if $(ANY_MD5),--any-md5)
	+@$(MAKE) --no-print-directory chain NAME=isles$(SUFFIX) LAYOUT=isles RAW=$(call quote,$(RAW))

named = [ -n "$(NAME_OK)" ] || { echo "error: NAME: expected a name for the data set, of letters, digits, . _ + and -." \
	"make $@ NAME=mine RAW=folder" >&2; exit 2; }; \
	case "$(NAME)" in raw|phantom|phantom-wmh|phantom-isles|demo|published|reported.json) \
	echo "error: NAME: expected a name that is not taken, found $(NAME). Choose another." >&2; exit 2;; esac
custom: $(READY) ## your own scans: make custom NAME=mine RAW=/path/to/scans [LAYOUT=wmh]
	@$(named)
	+@$(MAKE) --no-print-directory chain

sweep: $(READY) ## claim C6, alpha held at each of ALPHAS, and each of STRATEGIES: make sweep NAME=wmh
	@$(named)
	+@$(MAKE) --no-print-directory chain LOSSES="gdl+boundary $(ALPHAS:%=gdl+boundary-alpha%) $(STRATEGIES:%=gdl+boundary-%)"

# The variants differ in their distance maps, so each has data of its own
varied = $(MAKE) --no-print-directory scored NAME=$(NAME)$(1) LOSSES=gdl+boundary CONVENTION= UNIT= MAP_DIMS=
ablation: $(READY) ## official, mm and 3-D distance maps, capped GDL weight: make ablation NAME=wmh
	@$(named)
	@[ "$(PROTOCOL)" = paper ] || { echo "error: PROTOCOL: expected paper, whose map is varied, found $(PROTOCOL)." \
		"Leave it out." >&2; exit 2; }
	@[ "$(DIMS)" != 3 ] || { echo "error: DIMS: expected 2, whose maps are varied, found 3. Leave it out." >&2; exit 2; }
	+@$(call varied,) LOSSES="gdl gdl+boundary gdl-cap1 gdl+boundary-cap1"
	+@$(call varied,-official) CONVENTION=official
	+@$(call varied,-mm) UNIT=mm
	+@$(call varied,-3d) MAP_DIMS=3
	$(PY) -m studies.ablation --runs results/$(NAME) --variants $(foreach variant,official mm 3d,results/$(NAME)-$(variant))

compare: $(READY) ## each loss of COMPARE alone and with the boundary loss, in one table: make compare NAME=wmh [BESIDE="wmh-enet"]
	@$(named)
	+@$(MAKE) --no-print-directory scored NAME=$(NAME) LOSSES="$(foreach loss,$(COMPARE),$(loss) $(loss)+boundary)"
	$(PY) -m studies.comparison --runs results/$(NAME) $(BESIDE:%=results/%)

verify: $(READY) ## check raw scans and write nothing: make verify RAW=/path/to/scans [LAYOUT=wmh]
	@$(PY) preprocess.py --verify --layout $(LAYOUT) --raw=$(call quote,$(RAW))

SETS = $(sort $(patsubst results/%/,%,$(dir $(patsubst %/,%,$(dir $(patsubst %/,%,$(dir $(wildcard results/*/*/*/metrics.csv))))))))
status table figures claims: $(READY)
some_runs = [ -n "$(SETS)" ] || { echo "error: results: expected runs, found none. Train first, e.g. make wmh" >&2; exit 2; }
claims: ## the paper's claims C1 to C9 on every set that has runs
	@$(some_runs); status=0; for name in $(SETS); do $(PY) -m studies.claims --runs results/$$name || status=2; done; exit $$status

status: ## epoch, best score and time left of every run: make status [NAME=wmh]
	@$(if $(NAME_OK),,$(some_runs);) $(PY) -m scoring.status $(addprefix results/,$(if $(NAME_OK),$(NAME),$(SETS))) \
		$(if $(NAME_OK),--losses $(LOSSES) --seeds $(SEEDS))

table: ## Table 1 of every set that has runs, finished or not
	@$(some_runs); status=0; for name in $(SETS); do $(PY) report.py --runs results/$$name --only table || status=2; done; exit $$status

figures: ## the figures and report.html of every set that has runs
	@$(some_runs); status=0; for name in $(SETS); do $(PY) report.py --runs results/$$name || status=2; done; exit $$status

test: $(READY) ## the tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2

coverage: $(READY) ## the tests, with the lines of the library that they reach; fails under 95 %
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --cov --cov-report=term-missing

mutants: $(READY) ## faults planted in the core files, of which the tests must find 90 %; MUTANTS=losses.py for a part
	$(PY) tests/tools/mutants.py $(MUTANTS)

soak: $(READY) ## 100 kills at random moments, and the same results: preprocess.py, main.py, evaluate.py, report.py
	OMP_NUM_THREADS=1 $(PY) tests/tools/soak.py --kills 100 --minutes 30

$(ENV)/fuzz: requirements-fuzz.txt $(ENV)/complete
	@"$(ENV)/bin/python" -m pip install --disable-pip-version-check -r requirements-fuzz.txt && touch "$@"

fuzz: $(if $(READY),setup $(ENV)/fuzz) ## 100,000 mutated files for every reader, half an hour or more; RUNS= TARGETS= SECONDS= for a part
	OMP_NUM_THREADS=1 $(PY) tests/tools/fuzz.py $(if $(filter command,$(origin RUNS)),--runs $(RUNS)) $(call option,TARGETS,targets) \
		$(call option,SECONDS,seconds)

bench: $(READY) ## speed beside the 2018 code path, half an hour; BENCH="metrics losses" for a part; writes results/published/bench/*.json
	$(PY) -m benchmarks $(BENCH)

lint: $(READY) ## ruff
	$(PY) -m ruff check .

clean: ## remove phantoms, their runs, preprocessed slices and caches; raw scans and real runs stay
	rm -rf data/phantom $(patsubst %/dataset.json,%,$(wildcard data/*/dataset.json)) results/demo \
		results/phantom-wmh results/phantom-isles $(wildcard data/*.settings)
	rm -rf .pytest_cache .ruff_cache .hypothesis .coverage $(wildcard .coverage.* __pycache__ */__pycache__)

# ---- The chain, for one data set: NAME, LAYOUT, RAW ------------------------------------------------------------------
# A row of the table is a loss, or a loss with what is changed: gdl+boundary-alpha0.5 holds alpha at 0.5, gdl-cap1 caps
# the GDL's class weight at 1; -rebalance0.02, -increase, -increase0.02 and -switch50 are schedules of alpha (main.py --help)
KINDS       = rebalance increase switch
row_loss    = $(firstword $(subst -, ,$(1)))
row_changes = $(wordlist 2,9,$(subst -, ,$(1)))
row_options = $(patsubst alpha%,--schedule constant:%,$(filter alpha%,$(call row_changes,$(1)))) \
	$(foreach kind,$(KINDS),$(patsubst %:,%,$(patsubst $(kind)%,--schedule $(kind):%,$(filter $(kind)%,$(call row_changes,$(1)))))) \
	$(patsubst cap%,--gdl-max-weight %,$(filter cap%,$(call row_changes,$(1))))
UNKNOWN := $(foreach row,$(LOSSES),$(if $(filter-out alpha% cap% $(KINDS:=%),$(call row_changes,$(row))),$(row)))
$(if $(strip $(UNKNOWN)),$(error LOSSES: expected a loss, or one with -alphaNUMBER, -capNUMBER, -rebalanceSTEP, -increaseSTEP or \
	-switchEPOCHS, found $(strip $(UNKNOWN))))
RUNS = $(foreach loss,$(LOSSES),$(foreach seed,$(SEEDS),results/$(NAME)/$(loss)/seed$(seed)))
# "3/6": which of the runs of this matrix a run is
position = $(shell printf '%s\n' $(RUNS) | grep -nxF 'results/$(NAME)/$(1)' | cut -d: -f1)
device_of = $(word $(shell expr \( $(call position,$(1)) - 1 \) % $(words $(DEVICE)) + 1),$(DEVICE))
TRAIN = $(PY) $(if $(filter-out 0 1,$(GPUS)),-m torch.distributed.run --standalone --nproc-per-node $(GPUS)) main.py
option = $(if $($(1)),--$(2) $($(1)))
path_option = $(if $($(1)),--$(2)=$(call quote,$($(1))))
DATA_SETTINGS = --layout $(LAYOUT) --size $(SIZE) --protocol $(PROTOCOL) $(call option,SUBJECTS,subjects) \
	$(call option,VAL,val) $(call path_option,SPLIT,split) $(call path_option,PATIENTS,patients) \
	$(call option,CONVENTION,convention) $(call option,UNIT,unit) $(call option,MAP_DIMS,map-dims)
RUN_SETTINGS = --epochs $(EPOCHS) --network $(NETWORK) --width $(WIDTH) --protocol $(PROTOCOL) \
	$(call option,SCHEDULE,schedule) $(call option,BATCH,batch-size) $(call option,DIMS,dims) $(call option,PATCH,patch)
TABLES = $(foreach name,SPLIT PATIENTS,$(if $($(name)),cksum < $(call quote,$($(name))) 2>/dev/null;))
MACHINE = --device $(call device_of,$(1)) $(call option,THREADS,threads) $(if $(DETERMINISTIC),--deterministic) \
	$(if $(filter-out 1,$(JOBS)),--quiet)

# One make at a time works on a set: another one waits for its end, and then finds it done. The lock goes with its processes.
DRY = $(findstring n,$(firstword -$(MAKEFLAGS)))
alone = $(if $(DRY),,mkdir -p "results/$(NAME)" && exec 9>> "results/$(NAME)/.make" && { ! command -v flock > /dev/null || \
	flock -n 9 || { echo "results/$(NAME): another make works on it; waiting for its end"; flock 9; }; } && ) \
	$(MAKE) --no-print-directory -j $(or $(JOBS),1) PY="$(PY)" $(1)
runs: ## the runs of a matrix, one a line: make runs NAME=wmh
	@$(named)
	@printf '%s\n' $(RUNS)

chain: $(READY)
	+@$(call alone,results/$(NAME)/report.html)

scored: $(READY)
	+@$(call alone,$(RUNS:=/evaluation.csv))

ifneq ($(NAME_OK),)
# A settings file changes only when the settings do (or the files in RAW, or the tables), and so sets off what depends on them
data/$(NAME).settings results/$(NAME)/settings: FORCE
	@mkdir -p $(@D)
	@new="$@.new-$$$$"; $(if $(filter data/%,$@),{ ls -lLR -- $(call quote,$(RAW)) 2>/dev/null | cksum; $(TABLES) \
		printf '%s\n' $(call quote,$(DATA_SETTINGS)); } > "$$new",\
		echo "$(RUN_SETTINGS)" > "$$new"); \
		if cmp -s "$$new" $@; then rm -f "$$new"; else mv -f "$$new" $@; fi

data/$(NAME)/index.csv: data/$(NAME).settings
	$(PY) preprocess.py $(DATA_SETTINGS) --raw=$(call quote,$(RAW)) --out data/$(NAME)

$(RUNS:=/summary.json): results/$(NAME)/%/summary.json: data/$(NAME)/index.csv results/$(NAME)/settings
	RUN_OF=$(call position,$*)/$(words $(RUNS)) $(TRAIN) --data data/$(NAME) --loss $(call row_loss,$(patsubst %/,%,$(dir $*))) --seed $(patsubst seed%,%,$(notdir $*)) \
		--out results/$(NAME)/$* $(RUN_SETTINGS) $(call row_options,$(patsubst %/,%,$(dir $*))) $(call MACHINE,$*)
	@touch $@

$(RUNS:=/evaluation.csv): %/evaluation.csv: %/summary.json
	$(PY) evaluate.py --predictions $*/predictions --data data/$(NAME) --csv $@ --summary $*/evaluation.json > /dev/null

results/$(NAME)/claims.json: $(RUNS:=/evaluation.csv)
	@[ -z "$$(find -L $(call quote,$(RAW)) -maxdepth 4 -type d -name additional_annotations 2>/dev/null)" ] || \
		$(PY) -m scoring.raters --data data/$(NAME) --raw=$(call quote,$(RAW)) --out results/$(NAME)/raters.csv
	$(PY) -m studies.claims --runs results/$(NAME) --data data/$(NAME) --device $(firstword $(DEVICE)) $(call option,THREADS,threads)

results/$(NAME)/report.html: results/$(NAME)/claims.json
	$(PY) report.py --runs results/$(NAME) --data data/$(NAME)
endif
