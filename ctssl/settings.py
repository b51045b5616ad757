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
from ctssl.config.baselines import Clinical
from ctssl.config.evaluation import Target
from ctssl.config.prepare import Atlas
from ctssl.digests import digest, kept, label_digest, labelled_digest, members, visit_lines
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
    return text_of("atlas", **values)


def atlas_files(chosen: Atlas) -> dict[str, Path]:
    """Key -> path of the files that the atlas is made from."""
    named = {"mask": chosen.mask, "ct": chosen.ct, "landmarks": chosen.landmarks}
    return {key: path for key, path in named.items() if path is not None}


def volume(config: Config, manifest: Manifest, scan: str) -> str:
    """Settings of reading and masking one scan; they name its image and the image's stamp."""
    row = manifest.row(scan)
    return text_of(
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
    return text_of("register", registration=config.registration, graph=graph(config), store=_valid(config))


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
    return text_of("store")


def box(config: Config) -> str:
    """Settings of the box of the lungs."""
    return text_of("box")


def pack(config: Config) -> str:
    """Settings of the packed copy; which stores are in it, its own card knows."""
    return text_of("pack")


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
    return text_of("cohort", **values)


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
    return text_of("enough", max_excluded_fraction=config.limits.max_excluded_fraction)


def pretrain(config: Config, manifest: Manifest, run: str) -> str:
    """Settings of a pretraining; they hold those of the preparation, whose outputs enter as ancient."""
    return text_of("pretrain", **_trained(config, manifest, run))


def _trained(config: Config, manifest: Manifest, run: str) -> dict[str, Any]:
    """What decides the weights of a run, but for its scans."""
    chosen = config.run(run)
    made_of = {"box": RECIPES["box"]} if chosen.options.boxes else {}
    about = {"label", "seeds", "weights", "targets", "pretrained_on"}
    return {
        **made_of,
        **(how_split(config) if chosen.inside else {}),
        "run": chosen.model_dump(mode="json", exclude=about, serialize_as_any=True),
        "precision": config.pretraining.precision,
        "preparation": digest([_preparation(config, manifest)]),
    }


def fold(config: Config, manifest: Manifest, run: str, target: str) -> str:
    """Settings of the trainings of a supervised run for one target, alike in all folds.

    They hold a digest of the labels that there are: a scan without one trains nothing anew. The cohort's
    table and the folds enter such trainings as ancient.
    """
    known, how = _known(config, manifest, target), how_split(config)
    return text_of("fold", **_trained(config, manifest, run), **known, **how)


def how_split(config: Config) -> dict[str, Any]:
    """What of section evaluation decides the folds of the first split."""
    return config.evaluation.model_dump(mode="json", include={"folds", "split_seed", "stratify"})


def join(config: Config, manifest: Manifest, run: str, target: str) -> str:
    """Settings of what the folds of a supervised run say together."""
    known = _known(config, manifest, target)
    ordered = config.target(target).ordered  # which networks see only where it merges classes
    known["target"] |= {} if ordered is None else {"ordered": ordered}
    return text_of("join", run={"method": config.run(run).method}, **known, **first_of(config))


def first_of(config: Config) -> dict[str, int]:
    """How many splits there are of which networks inside the folds know the first; nothing when it is all."""
    repeats = config.evaluation.repeats
    return {"repeats": repeats} if repeats > 1 else {}


def _known(config: Config, manifest: Manifest, target: str) -> dict[str, Any]:
    """What says of a target which known labels it has, and which of them count."""
    chosen = config.target(target)
    labels, cases = labelled_digest(manifest, chosen.column), cases_of(config, manifest, chosen)
    asked = chosen.model_dump(mode="json", exclude={"rare", "event", "ordered"})
    if cases.get("rare") == "merge" and chosen.ordered is not None:
        asked["ordered"] = chosen.ordered  # it says whether and how classes are merged
    return {"manifest": str(manifest.path), "target": asked, "labels": labels, **cases}


def cases_of(config: Config, manifest: Manifest, target: Target) -> dict[str, Any]:
    """Which labelled scans of a target are cases of a probe, and as which class; nothing when all are."""
    chosen, rare = config.evaluation, target.rare or config.evaluation.rare
    used: dict[str, Any] = {}
    if chosen.scans_of_subject != "all":
        visits = digest(visit_lines(manifest, target.column))
        used |= {"scans_of_subject": chosen.scans_of_subject, "visits": visits}
    if target.task == "classify" and rare != "keep":
        used |= {"rare": rare, "rare_below": chosen.folds}
    return used


def training_machine(config: Config) -> str:
    """What of section pretraining belongs to the machine, as JSON; no setting of a job."""
    return config.pretraining.model_dump_json(exclude={"precision"})


def features(config: Config) -> str:
    """Settings of feature extraction."""
    return text_of("features")


def baseline(config: Config, manifest: Manifest, name: str) -> str:
    """Settings of hand-made features; of those that are columns of the manifest with a digest of each."""
    chosen = config.baseline(name)
    values: dict[str, Any] = {"baseline": chosen.method, "options": chosen.options}
    if isinstance(chosen.options, Clinical):
        digests = {name: label_digest(manifest.column(name)) for name in chosen.options.columns}
        values |= {"manifest": str(manifest.path), "columns": digests}
    return text_of("baseline", **values)


def figures(config: Config, manifest: Manifest) -> str:
    """Settings of the figures: which runs, coloured by which label."""
    first = config.evaluation.targets[0]
    labels = manifest.column(first.column)
    return text_of(
        "figures",
        panels=[
            (run.title, f"{run.name}_seed{run.seeds[0]}_all") for run in config.runs if run.part == "all"
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


def text_of(stage: str, **values: Any) -> str:
    """The param of a rule: the stage, its recipe and what else its result depends on."""
    plain = {name: _plain(value) for name, value in values.items()}
    return json.dumps({"stage": stage, "recipe": RECIPES[stage], **plain}, sort_keys=True)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
