"""The one tracked param of every rule: what a stage's result depends on, as one JSON text.

Snakemake compares this text with the one of the last run. Paths of results are not in it, so that a
results directory can be moved; that of the manifest is. Numbers of the machine (time, memory, retries,
device, threads) are not in it either.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from pydantic import BaseModel

from ctssl.config import Config
from ctssl.errors import ConfigError
from ctssl.manifest import Manifest, stamp
from ctssl.recipes import RECIPES

PREPARATION = ("atlas", "volume", "register", "store")
"""The stages whose settings decide what is in a patch store."""


def atlas(config: Config) -> str:
    """Settings of the atlas."""
    return _text("atlas", atlas=config.atlas)


def volume(config: Config, manifest: Manifest, scan: str) -> str:
    """Settings of reading and masking one scan; they name its image and the image's stamp."""
    row = manifest.row(scan)
    return _text(
        "volume",
        image=str(row.image),
        image_stamp="" if row.exclude else stamp(row.image),
        mask_image=str(row.mask) if row.mask else None,
        mask_stamp=stamp(row.mask) if row.mask and not row.exclude else None,
        exclude=row.exclude,
        exclude_reason=row.exclude_reason,
        volume=config.volume,
        mask=mask(config),
    )


def mask(config: Config) -> dict[str, Any]:
    """What of the mask section decides the mask: of the chosen method only, weights by their stamp."""
    chosen = config.mask
    used: dict[str, Any] = {"method": chosen.method, "min_lung_l": chosen.min_lung_l}
    if chosen.method == "lungmask":
        used |= {"model": chosen.model, "weights_stamp": stamp(chosen.weights) if chosen.weights else None}
    return used


def register(config: Config) -> str:
    """Settings of registration and landmarks."""
    return _text("register", registration=config.registration, graph=config.graph, store=config.store)


def store(config: Config) -> str:
    """Settings of the patch store."""
    return _text("store")


def cohort(config: Config, manifest: Manifest) -> str:
    """Settings of the cohort's tables: which scans of which subjects."""
    return _text(
        "cohort",
        quality=config.quality,
        manifest=str(manifest.path),
        scans=digest(members(manifest)),
    )


def enough(config: Config) -> str:
    """Settings of the check that enough scans are left."""
    return _text("enough", max_excluded_fraction=config.limits.max_excluded_fraction)


def pretrain(config: Config, run: str) -> str:
    """Settings of a pretraining; they hold those of the preparation, whose outputs enter as ancient."""
    chosen = config.run(run)
    return _text(
        "pretrain",
        run=chosen.model_dump(mode="json", exclude={"label", "seeds", "weights"}, serialize_as_any=True),
        precision=config.pretraining.precision,
        preparation=digest([_preparation(config)]),
    )


def features(config: Config) -> str:
    """Settings of feature extraction."""
    return _text("features")


def baseline(name: str) -> str:
    """Settings of a hand-made feature."""
    return _text("baseline", baseline=name)


def splits(config: Config) -> str:
    """Settings of the folds."""
    chosen = config.evaluation
    return _text(
        "splits",
        manifest=str(config.manifest),
        folds=chosen.folds,
        split_seed=chosen.split_seed,
        stratify=chosen.stratify,
    )


def probe(config: Config, manifest: Manifest, target: str) -> str:
    """Settings of a probe; they hold a digest of its label column."""
    chosen = config.target(target)
    labels = manifest.column(chosen.column)
    return _text("probe", manifest=str(manifest.path), target=chosen, labels=label_digest(labels))


def tables(config: Config) -> str:
    """Settings of the result tables: rows and targets in their order."""
    rows = [(run.title, run.name, list(run.seeds)) for run in config.runs] + [
        (name.upper(), name, [0]) for name in config.baselines
    ]
    return _text("tables", rows=rows, targets=[t.model_dump() for t in config.evaluation.targets])


def figures(config: Config, manifest: Manifest) -> str:
    """Settings of the figures: which runs, coloured by which label."""
    first = config.evaluation.targets[0]
    labels = manifest.column(first.column)
    return _text(
        "figures",
        panels=[(run.title, f"{run.name}_seed{run.seeds[0]}_all") for run in config.runs],
        manifest=str(manifest.path),
        target=first,
        labels=label_digest(labels),
    )


def parse(stage: str, text: str) -> dict[str, Any]:
    """The settings of a job as a dict.

    Raises:
        ConfigError: made for another stage, or by another version of this code.
    """
    values: dict[str, Any] = json.loads(text)
    if values.get("stage") != stage or values.get("recipe") != RECIPES[stage]:
        raise ConfigError(
            f"the settings are for stage {values.get('stage')!r} recipe {values.get('recipe')!r}, this is "
            f"stage {stage!r} recipe {RECIPES[stage]}",
            "the Snakefile and the installed ctssl differ in version: `pip install -e .` in the workflow",
        )
    return values


def digest(lines: Iterable[str]) -> str:
    """A short digest of lines of text."""
    return sha256("\n".join(lines).encode()).hexdigest()[:16]


def label_digest(labels: Mapping[str, str]) -> str:
    """A short digest of one label column, scan to label."""
    return digest(f"{scan}={label}" for scan, label in labels.items())


def members(manifest: Manifest) -> list[str]:
    """One line a scan: which subject it is of."""
    return [f"{row.scan} {row.subject}" for row in manifest.rows]


def _preparation(config: Config) -> str:
    parts = [config.atlas, config.volume, config.registration, config.graph, config.store]
    recipes = {stage: RECIPES[stage] for stage in PREPARATION}
    return json.dumps([recipes, mask(config), *(_plain(p) for p in parts)], sort_keys=True)


def _text(stage: str, **values: Any) -> str:
    plain = {name: _plain(value) for name, value in values.items()}
    return json.dumps({"stage": stage, "recipe": RECIPES[stage], **plain}, sort_keys=True)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
