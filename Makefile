# From raw scans to Table 1 and the figures. `make` alone lists the targets and the variables.
#
# Every stage is a file, so an interrupted `make` continues where it stopped:
#   raw scans -> data/NAME/index.csv -> results/NAME/ROW/seedK/summary.json -> .../evaluation.csv
#             -> results/NAME/claims.json -> results/NAME/report.html
#   with TEST=yes: raw test scans -> results/NAME/ROW/seedK/test.csv -> results/NAME/test_set.csv

# ---- Variables -----------------------------------------------------------------------------------
# Names in capitals are for the command line, as in make wmh EPOCHS=5 WIDTH=8; the environment does
# not set them. What follows "##" is for `make help`. The defaults are the paper's protocol.
NAME       = ## the set: a folder in data/ and one in results/ (make wmh, isles: "wmh", "isles")
RAW        = data/raw ## folder of the raw scans
LAYOUT     = wmh ## how the scans in RAW are arranged: wmh, isles, acdc, nnunet, bids, or your own my.toml
LOSSES     = boundary gdl gdl+boundary ## rows of the table, e.g. gdl+boundary-alpha0.5
SEEDS      = 0 1 ## seeds: each row has a run per seed
EPOCHS     = 200 ## of each run; a higher number continues finished runs, but not with LR_SCHEDULE=poly
NETWORK    = $(if $(filter 3,$(DIMS)),unet3d,unet) ## name of the network, see main.py --help (unet; unet3d with DIMS=3)
WIDTH      = 64 ## channels of the network at full resolution
BATCH      = ## slices or patches in a step (8 slices, 2 patches)
SCHEDULE   = ## of alpha over the epochs, e.g. rebalance:0.02; see main.py --help (to its floor half way)
SCORE      = ## score that chooses the best epoch, e.g. val_dice_3d (val_dice, the paper's)
LR_SCHEDULE = ## of the learning rate: poly or constant, the same for every loss (plateau, the paper's)
PROTOCOL   = paper ## paper: as its text says, or code2018: as the authors' first code does
AUGMENT    = ## yes: flips, right angles, small affine and intensity changes in training (no)
DIMS       = ## 3: train on patches of volumes; make wmh then makes the set wmh-dims3
PATCH      = ## size of a patch with DIMS=3, "slices rows columns" (fits the scans)
SIZE       = 256 ## rows and columns of a slice after resampling
FILL       = ## rows and columns that the scan takes up within SIZE, background around it (all)
NORMALISE  = ## percentiles or zscore: of each volume's intensities (min-max, the paper's)
SUBJECTS   = ## use only so many subjects (all)
VAL        = ## number of validation scans (the paper's)
SPLIT      = ## code2018, or a CSV table that says which scans validate, or the fold of each (drawn by seed)
FOLDS      = ## folds of cross-validation, of whole patients where these are known, e.g. 5: a run per row, seed and fold (none)
PATIENTS   = ## auto (isles, and layouts that name patients), or a CSV table: keeps the scans of a patient in one subset (no)
CONVENTION = ## paper or official: what the distance map is inside (the protocol's)
UNIT       = $(if $(filter 3,$(DIMS)),mm) ## px or mm: unit of the distance map (px; mm with DIMS=3)
MAP_DIMS   = $(filter 3,$(DIMS)) ## 2 or 3: distance map of slice or volume (2; 3 with DIMS=3)
DEVICE     = auto ## auto, cpu, cuda, or several that share the runs, as in "cuda:0 cuda:1"
GPUS       = ## processes, one per GPU, that train each run together (1)
JOBS       = 1 ## runs that are trained side by side
THREADS    = ## CPU threads of each run (all cores)
DETERMINISTIC = ## yes: runs are bit-identical on a GPU too, and slower (no)
COMPILE    = ## yes: network and loss are compiled, which pays after some minutes of training
GRAPH      = ## yes: the training step is launched as one CUDA graph
ALPHAS     = 0.1 0.25 0.5 0.75 0.9 ## make sweep: values at which alpha is held
STRATEGIES = $(strategies) ## make sweep: other schedules of alpha (increase, switch at 1/4)
COMPARE    = gdl ce dice focal hausdorff ## make compare: losses to compare
BESIDE     = ## make compare: further sets for the same table
FETCH      = yes ## make wmh, isles: fetch scans missing from RAW; no: never use the network
OBSERVERS  = ## make wmh: yes fetches the labels of two further raters
TEST       = ## yes: the challenge's 110 test scans too, scored with the finished models (wmh)
SERVER     = ## make wmh, isles: another server than https://dataverse.nl, https://zenodo.org
FILE       = ## make isles: archive of the training set, if the record has several
ANY_MD5    = ## make wmh, isles: yes accepts archives that were repacked
AS         = ## make publish: name of the pack (the set's and the device's)
WEIGHTS    = ## make publish: yes packs each run's best.pt too
SCANS      = ## make publish: yes packs Figures 1, 2 and 4 too, which show slices of scans
MUTANTS    = ## make mutants: files to plant faults in, e.g. losses.py (all five)
RUNS       = ## make fuzz: number of mutated files (100,000)
TARGETS    = ## make fuzz: readers to try, e.g. "runs page" (all)
SECONDS    = ## make fuzz: time limit for each reader (none)
BENCH      = ## make bench: what is measured, e.g. "metrics losses" (all)
# These may come from the environment as well
PYTHON    ?= python3 ## Python 3.11 or newer, which builds the environment
PY        ?= .venv/bin/python ## a Python with the packages: nothing is then installed
ENVS      ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/boundary-loss ## folder that environments are built in

# They fall as the schedule does (its step, floor and warm-up); the switch comes where alpha passes
# 0.5 if it is to reach its floor half way
own_schedule = $(or $(SCHEDULE),$(if $(filter paper,$(PROTOCOL)),$(shell $(PYTHON) -c "import sys, \
	scheduler; print(scheduler.for_epochs(int(sys.argv[1])))" $(EPOCHS))))
falls      = $(subst :, ,$(filter rebalance:%,$(own_schedule)))
floor      = $(addprefix -floor,$(word 3,$(1)))
strategies = $(call strategies_of,$(falls))
strategies_of = increase$(word 2,$(1))$(call floor,$(1))$(addprefix -warm,$(word 4,$(1))) \
	switch$(shell expr $(EPOCHS) / 4)$(call floor,$(1))

makefile  := $(firstword $(MAKEFILE_LIST))
variables := $(shell sed -nE 's/^([A-Z][A-Z0-9_]*) *\??= .*/\1/p' $(makefile))
# A default ends before the blank in front of its "##"
$(foreach _,$(variables),$(if $(filter file,$(origin $_)),$(eval $_ = $(strip $(value $_)))))
given   := $(foreach _,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $_))),$_))
# Paths are taken as they are given, "$" included, and quoted for the shell
$(foreach _,LAYOUT RAW SPLIT PATIENTS FILE,$(eval override $_ := $$(value $_)))
quote = '$(subst ','\'',$(1))'

unknown := $(firstword $(filter-out $(variables) HOME MAKE MAKEFLAGS SHELL XDG_CACHE_HOME,$(given)))
nearest  = $(shell $(PYTHON) -c "import difflib, sys; print(*difflib.get_close_matches( \
	sys.argv[1].upper(), sys.argv[2:], 1))" $(call quote,$(unknown)) $(variables))
$(if $(unknown),$(error unknown variable $(unknown); \
	$(or $(nearest:%=did you mean %?),see make help)))
$(if $(and $(FOLDS),$(VAL)$(filter random code2018,$(SPLIT))),$(error FOLDS: expected no VAL beside it, \
	and as SPLIT a table of folds alone, found $(VAL)$(SPLIT). Leave one of them out))
$(if $(and $(filter code2018,$(PROTOCOL)),$(filter 3,$(DIMS))),$(error DIMS: expected 2 with \
	PROTOCOL=code2018, whose maps are those of slices, found 3))
$(foreach _,LOSSES SEEDS DEVICE,$(if $(strip $($_)),,$(error $_: expected at least one, found none)))
$(foreach _,$(filter JOBS GPUS,$(given)),$(if $(shell printf %s $(call quote,$($_)) | \
	grep -xE '[1-9][0-9]*'),,$(error $_: expected at least 1, found $($_))))

# The name becomes a folder and a make target
name := $(if $(NAME),$(shell \
	printf %s $(call quote,$(NAME)) | grep -xE '[A-Za-z0-9][A-Za-z0-9._+-]*'))
taken := raw phantom phantom-wmh phantom-isles demo published reported.json
set = $(or $(filter-out $(taken),$(name)),$(error NAME: expected a name that is not taken, of \
	letters, digits, . _ + and -, found "$(NAME)". Give one, as in make $@ NAME=mine))
sets = $(or $(name),$(if $(NAME),$(set)),$(filter-out published,$(sort $(foreach file,$(wildcard results/*/*/*/metrics.csv), \
	$(word 2,$(subst /, ,$(file)))))),$(error results: expected runs, found none. Train first, \
	e.g. make wmh))

# $(call takes_no,VARIABLES,WHY): a target that has its own refuses those that are given
takes_no = $(foreach _,$(filter $(1),$(given)),$(error $_: expected none with make $@, $(2), found \
	$(value $_)))

.DEFAULT_GOAL := help
.SUFFIXES:
.PHONY: help setup demo wmh isles custom sweep ablation compare verify status table figures claims \
	publish test coverage mutants soak fuzz bench lint clean runs checked chain scored FORCE

help: ## list the targets and the variables
	@awk -F ' *## ' '/^[a-z]+:.*## / { sub(":.*", "", $$1); printf "  make %-9s %s\n", $$1, $$2 } \
		/^[A-Z]/ && NF > 1 { name = value = $$1; sub(" .*", "", name); sub("^[^=]*= *", "", value); \
			text = $$2 (value == "" || value ~ /[$$]/ ? "" : " (" value ")"); \
			lines = lines sprintf("  %-13s %s\n", name, text) } \
		END { print "\nVariables, with their defaults:"; printf "%s", lines }' $(makefile)

# ---- Environment: built once per machine and requirements, outside the clone; .venv links to it --
flock := $(shell command -v flock)
ready := $(if $(filter file,$(origin PY)),setup)
tools := $(ready)
own   := $(shell [ -L .venv ] || [ ! -d .venv ] || echo yes)
has_packages = $(shell .venv/bin/python -c "import importlib.util as found; \
	print(found.find_spec('torch') or '')" 2> /dev/null)
ifneq ($(own),)
setup:
	@$(if $(has_packages),,$(error .venv: expected the packages, found a folder without them. Remove \
		it, or: .venv/bin/pip install -r requirements.txt -c constraints.txt))
else ifneq ($(ready),)
env := $(ENVS)/env-$(shell cat requirements.txt constraints.txt | $(PYTHON) -c "import hashlib, \
	sys; print(hashlib.sha256(sys.stdin.buffer.read() + sys.version.encode()).hexdigest()[:12])")
# The file that marks that the packages are installed; its name changes with the requirements
installed = $(env)/$(1)-$(firstword $(shell cksum < requirements-$(1).txt))
tools := setup $(call installed,dev)
fuzzer := $(call installed,fuzz)

setup: $(env)/complete ## build the Python environment (the other targets do so by themselves)
	@[ "$$(readlink .venv)" = "$(env)" ] || ln -sfn "$(env)" .venv

install = $(if $(flock),flock "$(ENVS)/lock") sh -c '[ -e "$@" ] || { $(2) \
	"$(env)/bin/python" -m pip install --disable-pip-version-check -r $(1) -c constraints.txt && \
	touch "$@"; }'
$(env)/complete:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "error: $(PYTHON):" \
		"expected Python 3.11 or newer. Give one with PYTHON=/path/to/python3." >&2; exit 2; }
	@mkdir -p "$(ENVS)"
	@echo "building the environment in $(env) (once; several GB if torch comes with CUDA)"
	@$(call install,requirements.txt,$(PYTHON) -m venv "$(env)" &&)

$(call installed,dev) $(call installed,fuzz): $(env)/complete
	@$(call install,requirements-$(firstword $(subst -, ,$(@F))).txt)
endif

# ---- What people run -----------------------------------------------------------------------------
# $(call on,SET,VARIABLES GOAL): a make for a set; one at a time works on it. "exec" here, and "env"
# for a training: otherwise a shell stays in between, and a SIGTERM to make ends that shell alone.
dry = $(findstring n,$(firstword -$(MAKEFLAGS)))
on  = $(if $(dry),,exec $(PY) -m training.alone results/$(1)) $(MAKE) --no-print-directory \
	-j $(or $(JOBS),1) PY="$(PY)" NAME=$(1) LOSSES="$(rows)" $(2)

# The test scans are looked for before a chain starts, since they are predicted after training
test := $(filter-out no 0,$(TEST))
test_scans = $(PY) -m scans.test_scans $(layout) --raw=$(call quote,$(RAW))

# The runs' settings are checked before a chain starts, since training comes late in it
rows = $(LOSSES)
demo wmh isles custom sweep ablation compare: checked
checked: $(ready)
	@$(PY) -m training.check_rows $(rows) --seeds $(SEEDS) --with $(run_settings) \
		$(call option,THREADS,threads) $(call switch,DETERMINISTIC,deterministic) \
		$(call switch,COMPILE,compile) $(call switch,GRAPH,cuda-graph)

$(foreach _,EPOCHS=24 WIDTH=8 BATCH=4 SIZE=96 JOBS=2 THREADS=1 DEVICE=cpu,$(eval demo: $_))
small = $(foreach _,EPOCHS WIDTH BATCH SIZE JOBS THREADS DEVICE,$_="$($_)") SUBJECTS= VAL= SPLIT= \
	PATIENTS= LAYOUT=$(1) RAW=data/phantom/$(1)
demo: ## the whole chain on a small phantom, on the CPU, in minutes
	$(call takes_no,NAME LAYOUT RAW,which makes its own phantoms)
	@echo "the demo trains on: $(DEVICE)$(if $(filter cpu,$(DEVICE)), (DEVICE=cuda uses a GPU))"
	$(PY) -m scans.phantom --layout wmh --subjects 18 --out data/phantom/wmh
	$(PY) -m scans.phantom --layout isles --subjects 24 --out data/phantom/isles
	+@$(call on,phantom-wmh,$(call small,wmh) chain)
	+@$(call on,phantom-isles,$(call small,isles) TEST= chain)
	$(PY) report.py --runs results/phantom-wmh results/phantom-isles --out results/demo

suffix := $(if $(filter code2018,$(PROTOCOL)),-code2018)$(if $(filter 3,$(DIMS)),-dims3)
download = $(PY) -m scans.download --layout $@ --raw=$(call quote,$(RAW)) \
	$(call switch,FETCH,fetch) $(call path_option,SERVER,server) \
	$(call switch,ANY_MD5,any-md5)
own_name = $(if $(NAME),$(set),$@$(suffix))
wmh: ## WMH 2017 by the paper's protocol; fetches the scans missing from data/raw
	$(call takes_no,LAYOUT,whose scans have one)
	@$(download) $(call switch,OBSERVERS,observers) $(if $(test),--test)
	+@$(call on,$(own_name),LAYOUT=$@ chain)

isles: ## ISLES 2018 by the paper's protocol; fetches the scans if data/raw has none
	$(call takes_no,LAYOUT,whose scans have one)
	@$(download) $(call path_option,FILE,file) $(if $(test),--test)
	+@$(call on,$(own_name),LAYOUT=$@ chain)

custom: ## your own scans: make custom NAME=mine RAW=/path/to/scans [LAYOUT=my.toml]
	@$(if $(test),$(test_scans) > /dev/null)
	+@$(call on,$(set),chain)

sweep: rows = gdl+boundary $(ALPHAS:%=gdl+boundary-alpha%) $(STRATEGIES:%=gdl+boundary-%)
sweep: ## claim C6, constant ALPHAS and other STRATEGIES: make sweep NAME=wmh
	$(call takes_no,LOSSES,whose rows are ALPHAS and STRATEGIES)
	@$(if $(test),$(test_scans) > /dev/null)
	+@$(call on,$(set),chain)

# The variants differ in their distance maps, so each has data of its own
ablation: rows = gdl+boundary
varied = $(call on,$(set)$(1),CONVENTION= UNIT= MAP_DIMS= $(2) scored)
ablation: $(ready) ## official, mm and 3-D distance maps, capped GDL weight: make ablation NAME=wmh
	$(call takes_no,LOSSES TEST CONVENTION UNIT MAP_DIMS,which varies the maps)
	$(if $(filter paper,$(PROTOCOL)),,$(error PROTOCOL: expected paper, whose map is varied, found \
		$(PROTOCOL). Leave it out))
	$(if $(filter 3,$(DIMS)),$(error DIMS: expected 2, whose maps are varied, found 3. Leave it out))
	+@$(call varied,,LOSSES="gdl gdl+boundary gdl-cap1 gdl+boundary-cap1")
	+@$(call varied,-official,CONVENTION=official)
	+@$(call varied,-mm,UNIT=mm)
	+@$(call varied,-3d,MAP_DIMS=3)
	$(PY) -m studies.ablation --runs results/$(set) \
		--variants $(foreach _,official mm 3d,results/$(set)-$_)

compare: rows = $(foreach loss,$(COMPARE),$(loss) $(loss)+boundary)
compare: ## each loss of COMPARE with and without the boundary loss: make compare NAME=wmh
	$(call takes_no,LOSSES TEST,whose rows are those of COMPARE on the validation scans)
	+@$(call on,$(set),scored)
	$(PY) -m studies.comparison --runs results/$(set) $(BESIDE:%=results/%)

verify: $(ready) ## check raw scans and write nothing: make verify RAW=/path/to/scans [LAYOUT=my.toml]
	@$(PY) preprocess.py --verify $(layout) $(drawn) --raw=$(call quote,$(RAW))

# Without LOSSES, SEEDS or FOLDS on the command line: every run that was asked for before
status: $(ready) ## epoch, best score and time left of the runs asked for: make status [NAME=wmh]
	@$(PY) -m scoring.status $(if $(name),results/$(name), \
		$(sets:%=results/%)) $(call if_given,LOSSES,losses) $(call if_given,SEEDS,seeds) \
		$(call if_given,FOLDS,folds)

published = results/$(set)/.published
publish: $(ready) ## pack a finished set for others to check: make publish NAME=wmh
	rm -rf $(published)
	$(PY) report.py --runs results/$(set) $(if $(filter-out no 0,$(SCANS)),--no-slices,--no-scans) \
		--out $(published)
	$(PY) -m reporting.publish --runs results/$(set) --report $(published) \
		$(call option,AS,name) $(call switch,WEIGHTS,weights) $(call switch,SCANS,scans)

each_set = status=0; for set in $(sets); do $(1) || status=2; done; exit $$status
claims: $(ready) ## the paper's claims C1 to C11 on every set that has runs, or on NAME
	@$(call each_set,$(PY) -m studies.claims --runs results/$$set \
		--device $(firstword $(DEVICE)) $(call option,THREADS,threads))

table: $(ready) ## Table 1 of every set that has runs, finished or not, or of NAME
	@$(call each_set,$(PY) report.py --runs results/$$set --only table)

figures: $(ready) ## the figures and report.html of every set that has runs, or of NAME
	@$(call each_set,$(PY) report.py --runs results/$$set)

# Not every folder with a dataset.json is ours: nnU-Net's raw folders have one too
preprocessed = $(foreach _,$(patsubst %/subjects,%,$(wildcard data/*/subjects)), \
	$(if $(wildcard $_/dataset.json),$_)) $(wildcard data/*/.pending)
clean: ## remove phantoms, their runs, preprocessed slices and caches; real runs are kept
	rm -rf data/phantom $(preprocessed) results/demo \
		results/phantom-wmh results/phantom-isles $(wildcard data/*.settings)
	rm -rf .pytest_cache .ruff_cache .hypothesis .coverage \
		$(wildcard .coverage.* __pycache__ */__pycache__ */*/__pycache__)

# ---- For those who change the programs -----------------------------------------------------------
# Tests compute on the CPU; those that need a GPU come last, one at a time, where there is one
test: $(tools) ## the tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal
	@! $(PY) -c "import sys, torch; sys.exit(not torch.cuda.is_available())" || \
		OMP_NUM_THREADS=1 $(PY) -m pytest -m cuda

coverage: $(tools) ## the tests, with the lines of the library that they reach; fails below 95 %
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal --cov --cov-report=term-missing

mutants: $(tools) ## faults planted in the core files, of which the tests must find 90 %
	$(PY) tests/tools/mutants.py $(MUTANTS)

soak: $(tools) ## 100 kills at random moments must not change the results
	OMP_NUM_THREADS=1 $(PY) tests/tools/soak.py --kills 100 --minutes 30

fuzz: $(tools) $(fuzzer) ## mutated files for every reader, half an hour or more
	OMP_NUM_THREADS=1 $(PY) tests/tools/fuzz.py $(call option,RUNS,runs) \
		$(call option,TARGETS,targets) $(call option,SECONDS,seconds)

bench: $(tools) ## speed compared with the 2018 code path, half an hour; into results/published/bench/
	$(PY) -m benchmarks $(BENCH)

lint: $(tools) ## ruff
	$(PY) -m ruff check .

# ---- The chain, for one set: NAME, LAYOUT, RAW ---------------------------------------------------
# A run of each row, seed and fold: results/NAME/ROW/seedK or, of fold J, .../seedK-foldJ
folds  := $(if $(FOLDS),$(patsubst %,-fold%,$(shell seq 0 $$(($(FOLDS) - 1)))))
one     = $(if $(folds),$(addprefix $(1),$(folds)),$(1))
once    = $(if $(1),$(firstword $(1)) $(call once,$(filter-out $(firstword $(1)),$(1))))
matrix  = $(foreach row,$(call once,$(LOSSES)),$(foreach seed,$(call once,$(SEEDS)),$(call \
	one,results/$(name)/$(row)/seed$(seed))))
# "3/6": which of the runs of this matrix a run is
position  = $(shell printf '%s\n' $(matrix) | grep -nxF 'results/$(name)/$(1)' | cut -d: -f1)
device_of = $(word $(shell expr \( $(call position,$(1)) - 1 \) % $(words $(DEVICE)) + 1),$(DEVICE))
train = $(PY) $(if $(filter-out 0 1,$(GPUS)),-m torch.distributed.run --standalone \
	--nproc-per-node $(GPUS)) main.py
option = $(if $($(1)),--$(2) $($(1)))
switch = $(if $(filter-out no 0,$($(1))),--$(2))
if_given = $(if $(filter $(1),$(given)),--$(2) $($(1)))
path_option = $(if $($(1)),--$(2)=$(call quote,$($(1))))
# A name stands as it is, and what is not given leaves no blank, so that the settings of older data
# read the same; a path is quoted
layout = $(if $(findstring .,$(LAYOUT)),--layout=$(call quote,$(LAYOUT)),--layout $(LAYOUT))
pixels = --size $(SIZE)$(if $(FILL), --fill $(FILL))$(if $(NORMALISE), --normalise $(NORMALISE))
drawn  = $(call option,SUBJECTS,subjects) $(call option,VAL,val) \
	$(if $(SPLIT),$(call path_option,SPLIT,split)$(if $(FOLDS), --folds $(FOLDS)),$(if \
	$(FOLDS),--split folds:$(FOLDS))) \
	$(call path_option,PATIENTS,patients)
data_settings = $(layout) $(pixels) --protocol $(PROTOCOL) $(drawn) \
	$(call option,CONVENTION,convention) $(call option,UNIT,unit) $(call option,MAP_DIMS,map-dims)
run_settings = --epochs $(EPOCHS) --network $(NETWORK) --width $(WIDTH) --protocol $(PROTOCOL) \
	$(call option,SCHEDULE,schedule) $(call option,SCORE,score) \
	$(call option,LR_SCHEDULE,lr-schedule) $(call option,BATCH,batch-size) $(call option,DIMS,dims) \
	$(call option,PATCH,patch)$(if $(filter-out no 0,$(AUGMENT)), --augment)
machine = --device $(call device_of,$(1)) $(call option,THREADS,threads) \
	$(call switch,DETERMINISTIC,deterministic) $(call switch,COMPILE,compile) \
	$(call switch,GRAPH,cuda-graph) $(if $(filter-out 1,$(JOBS)),--quiet)

runs: ## the runs of a matrix, one per line: make runs NAME=wmh
	@printf '%s\n' $(if $(set),$(matrix))

ifneq ($(name),)
chain: results/$(name)/report.html
scored: $(matrix:=/evaluation.csv)

# The settings of a stage are kept in a settings file, which is written once the stage is done and
# changes only when the settings do (or the files in RAW, or the tables): the stage is then repeated
tables = SPLIT PATIENTS $(if $(findstring .,$(LAYOUT)),LAYOUT)
data_record = { ls -lLR -- $(call quote,$(RAW)) 2> /dev/null | cksum; \
	$(foreach table,$(tables),$(if $($(table)),2> /dev/null cksum < $(call quote,$($(table)));)) \
	printf '%s\n' $(call quote,$(data_settings)); }
run_record  = echo "$(run_settings)"
unless_same = $(if $(shell $(1) | cmp -s - $(2) 2> /dev/null && echo same),,FORCE)
# The runs that were asked for, of which make status tells those that have not begun too
note_asked = mkdir -p results/$(name) && { cat results/$(name)/.asked 2> /dev/null; \
	printf '%s\n' $(patsubst results/$(name)/%,%,$(matrix)); } | sort -u > results/$(name)/.asked-$$$$ \
	&& mv -f results/$(name)/.asked-$$$$ results/$(name)/.asked
keep = new=$(2).new-$$$$; $(1) > $$new; \
	if cmp -s $$new $(2); then rm -f $$new; else mv -f $$new $(2); fi

data/$(name)/index.csv: $(call unless_same,$(data_record),data/$(name).settings)
	$(PY) preprocess.py $(data_settings) --raw=$(call quote,$(RAW)) --out data/$(name)
	@$(call keep,$(data_record),data/$(name).settings)

$(matrix:=/summary.json): results/$(name)/%/summary.json: data/$(name)/index.csv \
		$(wildcard results/$(name)/settings) $(call unless_same,$(run_record),results/$(name)/settings)
	@$(note_asked)
	env RUN_OF=$(call position,$*)/$(words $(matrix)) RUNS_TOGETHER=$(or $(JOBS),1) $(train) --data data/$(name) \
		--row $(patsubst %/,%,$(dir $*)) \
		--seed $(subst -fold, --fold ,$(patsubst seed%,%,$(notdir $*))) \
		--out results/$(name)/$* $(run_settings) $(call machine,$*)
	@$(call keep,$(run_record),results/$(name)/settings); touch $@

$(matrix:=/evaluation.csv): %/evaluation.csv: %/summary.json
	$(PY) evaluate.py --predictions $*/predictions --data data/$(name) --csv $@ \
		--summary $*/evaluation.json > /dev/null

results/$(name)/claims.json: $(matrix:=/evaluation.csv)
	@[ -z "$$(find -L $(call quote,$(RAW)) -maxdepth 4 -type d -name additional_annotations \
		2> /dev/null)" ] || $(PY) -m scoring.raters --data data/$(name) --raw=$(call quote,$(RAW)) \
		--optional --out results/$(name)/raters.csv
	$(PY) -m studies.claims --runs results/$(name) --data data/$(name) \
		--device $(firstword $(DEVICE)) $(call option,THREADS,threads)

# The challenge's test scans: each finished run predicts and scores them
$(matrix:=/test.csv): results/$(name)/%/test.csv: results/$(name)/%/summary.json
	scans=$$($(test_scans)) && exec env $(if $(THREADS),OMP_NUM_THREADS=$(THREADS)) $(PY) predict.py \
		--resume --checkpoint results/$(name)/$*/best.pt --out results/$(name)/$*/test \
		--device $(call device_of,$*) $(call switch,DETERMINISTIC,deterministic) "$$scans" > /dev/null
	$(PY) -m scoring.test_set --runs results/$(name) --only $* --raw=$(call quote,$(RAW))

results/$(name)/test_set.csv: $(matrix:=/test.csv)
	$(PY) -m scoring.test_set --runs results/$(name) --data data/$(name) \
		--raw=$(call quote,$(RAW))

results/$(name)/report.html: results/$(name)/claims.json $(if $(test),results/$(name)/test_set.csv)
	$(PY) report.py --runs results/$(name) --data data/$(name)
endif
