"""The one tracked param of every rule: what a stage's result depends on, as one JSON text.

Snakemake compares this text with the one of the last run. Paths of results are not in it, so that a
results directory can be moved; that of the manifest is. Numbers of the machine (time, memory, retries,
device, threads) are not in it either.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ctssl.cards import read_card
from ctssl.config import Config
from ctssl.config.prepare import Atlas
from ctssl.digests import digest, kept, label_digest, labelled_digest, members
from ctssl.errors import ConfigError
from ctssl.manifest import Manifest, stamp
from ctssl.recipes import RECIPES
from ctssl.sources import atlas_scan, contents, images

PREPARATION = ("atlas", "volume", "register", "store")
"""The stages whose settings decide what is in a patch store."""


def atlas(config: Config, manifest: Manifest) -> str:
    """Settings of the atlas; they name files and scans that it is made from, with what shows a change.

    Raises:
        ConfigError: a file, a scan or its image is not there, or the scan is excluded.
    """
    chosen = config.atlas
    values: dict[str, Any] = {"atlas": chosen}
    if chosen.source == "file":
        values["files"] = {key: contents(key, path) for key, path in atlas_files(chosen).items()}
    if chosen.scans:
        values |= {"scans": [atlas_scan(manifest, scan) for scan in chosen.scans]}
        values |= {"volume": config.volume, "mask": mask(config)}
    if chosen.source == "template":
        values["registration"] = config.registration
    return _text("atlas", **values)


def atlas_files(chosen: Atlas) -> dict[str, Path]:
    """Key -> path of the files that the atlas is made from."""
    named = {"mask": chosen.mask, "ct": chosen.ct, "landmarks": chosen.landmarks}
    return {key: path for key, path in named.items() if path is not None}


def volume(config: Config, manifest: Manifest, scan: str) -> str:
    """Settings of reading and masking one scan; they name its image and the image's stamp."""
    row = manifest.row(scan)
    return _text(
        "volume",
        **images(row),
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
    return _text("register", registration=config.registration, graph=graph(config), store=_valid(config))


def graph(config: Config) -> dict[str, Any]:
    """What of the graph section decides the edges: of the chosen rule only."""
    chosen = config.graph
    used: dict[str, Any] = {"edges": chosen.edges}
    if chosen.edges != "topology":
        used["scale_normalised"] = chosen.scale_normalised
        used |= (
            {"rho_mm": chosen.rho_mm} if chosen.edges == "distance" else {"min_overlap": chosen.min_overlap}
        )
    return used


def store(config: Config) -> str:
    """Settings of the patch store."""
    return _text("store")


def box(config: Config) -> str:
    """Settings of the box of the lungs."""
    return _text("box")


def pack(config: Config) -> str:
    """Settings of the packed copy; which stores are in it, its own card knows."""
    return _text("pack")


def cohort(config: Config, manifest: Manifest) -> str:
    """Settings of the cohort's tables: which scans of which subjects, and which stores made elsewhere."""
    values: dict[str, Any] = {"quality": config.quality, "manifest": str(manifest.path)}
    values |= {"scans": digest(members(manifest)), "kept": digest(kept(manifest))}
    if config.reports.file_names:
        values["file_names"] = True
    boxed = any(run.options.boxes for run in config.runs)
    if config.prepared is not None:
        folder = config.prepared
        stores = (f"{row.scan} {row.exclude} {_stamps(folder, row.scan, boxed)}" for row in manifest.rows)
        values |= {"prepared": str(config.prepared), "atlas": prepared_atlas(config.prepared)}
        values |= {"stores": digest(stores)}
    elif boxed:
        values["boxes"] = True
    return _text("cohort", **values)


def prepared_atlas(folder: Path) -> str:
    """The id of the atlas in a folder that was prepared elsewhere.

    Raises:
        ConfigError: there is none.
    """
    card = folder / "atlas" / "atlas.json"
    try:
        return str(read_card(card)["id"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"the prepared folder {folder} should hold atlas/atlas.json and stores/: {error!r}",
            "correct `prepared`, or make the folder: `ctssl phantom FOLDER --oracle` makes one",
        ) from error


def enough(config: Config) -> str:
    """Settings of the check that enough scans are left."""
    return _text("enough", max_excluded_fraction=config.limits.max_excluded_fraction)


def pretrain(config: Config, manifest: Manifest, run: str) -> str:
    """Settings of a pretraining; they hold those of the preparation, whose outputs enter as ancient."""
    return _text("pretrain", **_trained(config, manifest, run))


def _trained(config: Config, manifest: Manifest, run: str) -> dict[str, Any]:
    """What decides the weights of a run, but for its scans."""
    chosen = config.run(run)
    made_of = {"box": RECIPES["box"]} if chosen.options.boxes else {}
    return {
        **made_of,
        "run": chosen.model_dump(
            mode="json", exclude={"label", "seeds", "weights", "targets"}, serialize_as_any=True
        ),
        "precision": config.pretraining.precision,
        "preparation": digest([_preparation(config, manifest)]),
    }


def fold(config: Config, manifest: Manifest, run: str, target: str) -> str:
    """Settings of the trainings of a supervised run for one target, alike in all folds.

    They hold a digest of the labels that there are: a scan without one trains nothing anew. The cohort's
    table and the folds enter such trainings as ancient.
    """
    how = config.evaluation.model_dump(mode="json", include={"folds", "split_seed", "stratify"})
    return _text("fold", **_trained(config, manifest, run), **_known(config, manifest, target), **how)


def join(config: Config, manifest: Manifest, run: str, target: str) -> str:
    """Settings of what the folds of a supervised run say together."""
    return _text("join", run={"method": config.run(run).method}, **_known(config, manifest, target))


def _known(config: Config, manifest: Manifest, target: str) -> dict[str, Any]:
    """What says of a target which known labels it has."""
    chosen = config.target(target)
    labels = labelled_digest(manifest, chosen.column)
    return {"manifest": str(manifest.path), "target": chosen, "labels": labels}


def training_machine(config: Config) -> str:
    """What of section pretraining belongs to the machine, as JSON; no setting of a job."""
    return config.pretraining.model_dump_json(exclude={"precision"})


def features(config: Config) -> str:
    """Settings of feature extraction."""
    return _text("features")


def baseline(config: Config, name: str) -> str:
    """Settings of hand-made features."""
    chosen = config.baseline(name)
    return _text("baseline", baseline=chosen.method, options=chosen.options)


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
    labels = label_digest(manifest.column(chosen.column))
    return _text("probe", manifest=str(manifest.path), target=chosen, labels=labels)


def tables(config: Config) -> str:
    """Settings of the result tables: rows and targets in their order."""
    rows = [
        (run.title, run.name, list(run.seeds), "folds" if run.options.supervised else "all", run.targets)
        for run in config.runs
    ] + [(chosen.title, chosen.name, [0], "all", None) for chosen in config.baselines]
    return _text("tables", rows=rows, targets=[t.model_dump() for t in config.evaluation.targets])


def figures(config: Config, manifest: Manifest) -> str:
    """Settings of the figures: which runs, coloured by which label."""
    first = config.evaluation.targets[0]
    labels = manifest.column(first.column)
    return _text(
        "figures",
        panels=[
            (run.title, f"{run.name}_seed{run.seeds[0]}_all")
            for run in config.runs
            if not run.options.supervised
        ],
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


def _preparation(config: Config, manifest: Manifest) -> str:
    if config.prepared is not None:
        return f"atlas {prepared_atlas(config.prepared)}"
    parts = [config.volume, config.registration, graph(config), _valid(config)]
    recipes = {stage: RECIPES[stage] for stage in PREPARATION}
    chest = json.loads(atlas(config, manifest))
    for key in ("mask", "ct", "landmarks"):
        del chest["atlas"][key]  # where a file lies is nothing to a model
    if not config.registration.ct_weight:
        chest.get("files", {}).pop("ct", None)  # nor is the CT: it is looked at, and no store depends on it
    plain = [recipes, chest, mask(config), *(_plain(p) for p in parts)]
    return json.dumps(plain, sort_keys=True)


def _valid(config: Config) -> dict[str, Any]:
    """What of the store section decides what is in a store: where patches are read from does not."""
    return config.store.model_dump(mode="json", exclude={"packed"})


def _stamps(folder: Path, scan: str, boxed: bool) -> str:
    """What tells that a scan's store, or its box where runs need boxes, was replaced in a prepared folder."""
    cards = {"stores": "store.json"} | ({"boxes": "box.json"} if boxed else {})
    files = [folder / room / scan / name for room, card in cards.items() for name in ("status.json", card)]
    return " ".join(map(stamp, files))


def _text(stage: str, **values: Any) -> str:
    plain = {name: _plain(value) for name, value in values.items()}
    return json.dumps({"stage": stage, "recipe": RECIPES[stage], **plain}, sort_keys=True)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
