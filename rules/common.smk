"""Lookups that the rules share: the typed config, the manifest, paths that several rules name."""

import json
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

from ctssl import (
    planning,
    preparation,
    settings,
    settings_probes,
    settings_scores,
    settings_tables,
)
from ctssl.config import check, check_file
from ctssl.errors import CtsslError
from ctssl.jobs import outputs, places, prepared
from ctssl.jobs.environment import use_own_command, warn_without_memory
from ctssl.jobs.summary import say_exclusions
from ctssl.manifest import read_manifest

NO_MANIFEST = """No scans were given.
  What to do: `ctssl init FOLDER_OF_SCANS --to my-study` writes config.yaml and scans.csv; then
  snakemake --cores 8 --resources gpu=1 --configfile my-study/config.yaml
  To look around first: `make demo` makes synthetic scans and runs everything on them."""

try:
    for path in workflow.configfiles:
        check_file(Path(path))
    CONFIG = check(config)
    if CONFIG.manifest is None:
        raise WorkflowError(NO_MANIFEST)
    prepared.check(CONFIG)
    MANIFEST = read_manifest(CONFIG.manifest, images=CONFIG.prepared is None)
    places.check(CONFIG, MANIFEST)
    outputs.check(CONFIG.results)
    if CONFIG.prepared is None:
        # A missing atlas file or scan ends here, with its message.
        settings.atlas(CONFIG, MANIFEST)
    planning.check(CONFIG, MANIFEST)
    # Environments that conda makes for the jobs have all libraries, whatever this one has.
    if DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method:
        planning.check_libraries(CONFIG)
except CtsslError as error:
    raise WorkflowError(str(error)) from None

use_own_command()

RESULTS = CONFIG.results
ATLAS = f"{CONFIG.prepared or RESULTS}/atlas"
# One that was made elsewhere is no input: a copy's time says nothing, and the settings hold its id.
# Jobs take the path from their resources, which Snakemake does not track.
ATLAS_INPUT = [] if CONFIG.prepared else ATLAS
FAILURES = f"{RESULTS}/failures.csv"
QUALITY = f"{RESULTS}/quality/quality.csv"
ENOUGH = f"{RESULTS}/quality/enough.txt"
SCANS = f"{RESULTS}/scans.csv"
PACKED = f"{RESULTS}/packed/packed.json"
warn_without_memory(SCANS if CONFIG.prepared else ATLAS)
# Subjects keep their fold in this file, so what would give other folds is part of its name.
SPLITS_AGAIN = (
    f"{RESULTS}/splits/seed{{again}}-{CONFIG.evaluation.stratify or 'plain'}.csv"
)
SPLITS = SPLITS_AGAIN.format(again=CONFIG.evaluation.split_seed)
# Seeds of the repeats, in which all subjects are split anew.
AGAIN = [CONFIG.evaluation.split_seed + r for r in range(1, CONFIG.evaluation.repeats)]
ALL_SPLITS = [SPLITS, *(SPLITS_AGAIN.format(again=seed) for seed in AGAIN)]
BY_FOLDER = f"{RESULTS}/by/{CONFIG.evaluation.leave_out}"
TARGETS = [target.name for target in CONFIG.evaluation.targets]
# Runs of methods that cut their samples from boxes of whole lungs.
BOXED = {run.name for run in CONFIG.runs if run.options.boxes}
# Runs that are trained on labels inside each fold, and have predictions in place of features.
SUPERVISED = {run.name for run in CONFIG.runs if run.options.supervised}
# Runs that are pretrained anew inside each fold.
INSIDE = {run.name: run.seeds for run in CONFIG.runs if run.inside}


def rows_with(part):
    """The rows of the runs whose networks have seen this part."""
    return [
        f"{run.name}_seed{seed}_{part}"
        for run in CONFIG.runs
        if run.part == part
        for seed in run.seeds
    ]


ROWS = rows_with("all")
FOLD_ROWS = rows_with("folds")
INSIDE_ROWS = rows_with("inside")
INSIDE_FOLDER = f"{RESULTS}/runs/{{run}}/seed{{seed}}/split{CONFIG.evaluation.split_seed}-fold{{fold}}"
FOLD_FOLDER = f"{RESULTS}/runs/{{supervised}}/seed{{seed}}/split{CONFIG.evaluation.split_seed}-fold{{fold}}/{{target}}"
FOLD_RECORD = f"{FOLD_FOLDER}/fold.json"
BASELINE_ROWS = [f"{chosen.name}_seed0_all" for chosen in CONFIG.baselines]

CONFOUNDERS = [chosen.name for chosen in CONFIG.evaluation.confounders]
# The cards of weights that runs were given say on what those were pretrained.
GIVEN_CARDS = [
    str(run.weights.with_suffix(".json")) for run in CONFIG.runs if run.weights
]


wildcard_constraints:
    scan="[A-Za-z0-9][A-Za-z0-9_.-]*",
    # A run has features, or trainings inside the folds, not both.
    run="|".join(run.name for run in CONFIG.runs if run.name not in SUPERVISED)
    or "none",
    supervised="|".join(sorted(SUPERVISED)) or "none",
    baseline="|".join(chosen.name for chosen in CONFIG.baselines) or "none",
    seed="[0-9]+",
    fold="[0-9]+",
    confounder="|".join(CONFOUNDERS) or "none",
    again="|".join(map(str, AGAIN)) or "none",
    part="all|split[0-9]+-fold[0-9]+",
    row="[a-z0-9-]+_seed[0-9]+_all",


def of_every_scan(stage):
    """The folders of a per-scan stage; none when the stores were made elsewhere."""
    return [] if CONFIG.prepared else [f"{RESULTS}/{stage}/{s}" for s in MANIFEST.scans]


def weights_of(run, seed, part):
    """The run's own weights, or those that it was given."""
    given = CONFIG.run(run).weights
    return (
        str(given)
        if given
        else f"{RESULTS}/runs/{run}/seed{seed}/{part}/model.safetensors"
    )


def records_of(run, seed, target):
    """What a supervised run did in each fold for a target."""
    return [
        FOLD_RECORD.format(supervised=run, seed=seed, fold=fold, target=target)
        for fold in range(CONFIG.evaluation.folds)
    ]


def pairs_of(run, seed):
    """Of each fold the features by its network, and who that was trained on."""
    split = f"split{CONFIG.evaluation.split_seed}"
    return [
        path
        for fold in range(CONFIG.evaluation.folds)
        for path in (
            f"{RESULTS}/features/{run}_seed{seed}_{split}-fold{fold}.parquet",
            f"{INSIDE_FOLDER}/scans.csv".format(run=run, seed=seed, fold=fold),
        )
    ]


def all_probes():
    """What every row says of every target."""
    return [
        f"{RESULTS}/probes/{row}/{target}.json"
        for row in ROWS + FOLD_ROWS + INSIDE_ROWS + BASELINE_ROWS
        for target in CONFIG.targets_of(row.split("_")[0])
    ]


def all_features():
    """Features of every run and baseline."""
    inside = [pairs_of(run, seed)[::2] for run in INSIDE for seed in INSIDE[run]]
    return [
        *(f"{RESULTS}/features/{row}.parquet" for row in ROWS + BASELINE_ROWS),
        *sum(inside, []),
    ]


def all_curves():
    """What every row says of every target with ever more labels."""
    return [
        f"{RESULTS}/curves/{row}/{target}.json"
        for row in ROWS + BASELINE_ROWS
        for target in settings_scores.curved(CONFIG)
    ]


def all_tables():
    """Tables and figures, when there are targets."""
    if not TARGETS or not ROWS + FOLD_ROWS + INSIDE_ROWS:
        return []
    return [
        f"{RESULTS}/tables/probes.csv",
        f"{RESULTS}/tables/probes.md",
        *(
            [f"{RESULTS}/tables/pairs.csv"]
            if len(ROWS + FOLD_ROWS + INSIDE_ROWS + BASELINE_ROWS) > 1
            else []
        ),
        *(
            [f"{RESULTS}/tables/curves.csv"]
            if CONFIG.evaluation.label_shares and all_curves()
            else []
        ),
        *([f"{RESULTS}/tables/paper.csv"] if CONFIG.evaluation.published else []),
        *(
            [f"{RESULTS}/tables/by-{CONFIG.evaluation.leave_out}.csv"]
            if CONFIG.evaluation.leave_out and ROWS + BASELINE_ROWS
            else []
        ),
        *([f"{RESULTS}/tables/confounding.csv"] if CONFOUNDERS else []),
        *([f"{RESULTS}/figures/umap.png"] if ROWS else []),
    ]


def asked_pages():
    """The names of all pages, as JSON."""
    return json.dumps(
        [Path(path).stem for path in all_tables() if path.endswith(".csv")]
    )


def all_predictions():
    """What every run says of scans without a label; what the baselines say comes with the tables."""
    return [f"{RESULTS}/predictions/{row}/{t}.csv" for row in ROWS for t in TARGETS]


def attempt(wildcards, attempt):
    """1 for the first try of a job."""
    return attempt
