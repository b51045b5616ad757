"""The jobs that learn from the stores: pretraining, features, folds, probes, result tables."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ctssl import settings as stage_settings
from ctssl.config.study import Pretraining, Run, Target
from ctssl.errors import CohortError
from ctssl.jobs.rows import check_unchanged, read_rows
from ctssl.log import Progress, tell
from ctssl.manifest import read_manifest

if TYPE_CHECKING:
    from ctssl.store.reader import Store


@dataclass(frozen=True)
class Machine:
    """What a training or extraction runs on: device as in the config, CPU threads."""

    device: Literal["cuda", "cpu", "auto"]
    threads: int


def pretrain(
    text: str, seed: int, atlas: Path, scans: Path, weights: Path, machine: Machine, checkpoint_steps: int
) -> None:
    """Pretrain one run on its frozen scans; the first job freezes those that have a store."""
    from ctssl.prepare.atlas import read_atlas
    from ctssl.store.reader import open_store
    from ctssl.train.loop import PretrainJob
    from ctssl.train.loop import pretrain as train

    settings = stage_settings.parse("pretrain", text)
    rows = {row["scan"]: row for row in read_rows(scans)}
    chosen = [rows[scan] for scan in _freeze(weights.parents[2] / "scans.txt", list(rows)) if scan in rows]
    chest = read_atlas(atlas)
    job = PretrainJob(
        run=Run(**settings["run"]),
        pretraining=Pretraining(
            device=machine.device,
            threads=machine.threads,
            precision=settings["precision"],
            checkpoint_steps=checkpoint_steps,
        ),
        atlas=chest,
        stores=[open_store(_path(scans, row), atlas=chest.id) for row in chosen],
        subjects=[row["subject"] for row in chosen],
        seed=seed,
        out=weights.parent,
    )
    train(job)


def features(text: str, atlas: Path, scans: Path, weights: Path, machine: Machine, out: Path) -> None:
    """Write the features of every scan that has a store."""
    from ctssl.evaluate.features import extract
    from ctssl.prepare.atlas import read_atlas

    stage_settings.parse("features", text)
    chest = read_atlas(atlas)
    stores, subjects = _stores(scans, chest.id)
    extract(
        weights,
        chest,
        stores,
        subjects,
        cache=scans.parent / "cache" / "features",
        out=out,
        device=machine.device,
        threads=machine.threads,
    )


def baseline(text: str, scans: Path, out: Path) -> None:
    """Write a hand-made feature of every scan that has a store."""
    from ctssl.evaluate.baselines import write_laa950

    assert stage_settings.parse("baseline", text)["baseline"] == "laa-950"
    write_laa950(*_stores(scans), out)


def splits(text: str, scans: Path, out: Path) -> None:
    """Write or extend the folds: subjects that have one keep it."""
    from ctssl.evaluate.splits import write_splits

    settings = stage_settings.parse("splits", text)
    manifest = read_manifest(Path(settings["manifest"]), images=False)
    strata = None
    if settings["stratify"]:
        labels = manifest.column(settings["stratify"])
        strata = {row["subject"]: labels[row["scan"]] for row in reversed(read_rows(scans))}
    subjects = list(dict.fromkeys(row["subject"] for row in _some_rows(scans)))
    write_splits(out, subjects, strata, settings["folds"], settings["split_seed"])


def probe(text: str, features: Path, splits: Path, out: Path) -> None:
    """Write the cross-validated prediction of one target from one table of features."""
    import pandas as pd

    from ctssl.evaluate.labels import read_labels
    from ctssl.evaluate.probes import probe as cross_validate
    from ctssl.evaluate.probes import write_probe
    from ctssl.evaluate.splits import read_splits

    settings = stage_settings.parse("probe", text)
    target, manifest = Target(**settings["target"]), read_manifest(Path(settings["manifest"]), images=False)
    column = manifest.column(target.column)
    check_unchanged(settings["labels"], stage_settings.label_digest(column), manifest)
    folds = read_splits(splits)
    result = cross_validate(pd.read_parquet(features), read_labels(column, target), folds, target)
    write_probe(out, result)


def tables(text: str, probes: Sequence[Path], csv_path: Path, markdown: Path) -> None:
    """Write the result tables: one row a run or baseline, one column a target."""
    from ctssl.evaluate.probes import read_probe
    from ctssl.evaluate.tables import write_tables

    settings = stage_settings.parse("tables", text)
    targets = [Target(**t) for t in settings["targets"]]
    read = {(path.parent.name, path.stem): read_probe(path) for path in probes}
    results = {
        title: {
            f"seed{seed}": {t.name: read[f"{name}_seed{seed}_all", t.name] for t in targets} for seed in seeds
        }
        for title, name, seeds in settings["rows"]
    }
    write_tables(results, targets, csv_path, markdown)


def figures(text: str, features: Sequence[Path], out: Path) -> None:
    """Write the map of the features of every run, coloured by the first target."""
    import pandas as pd

    from ctssl.evaluate.figures import feature_maps
    from ctssl.evaluate.labels import read_labels

    settings = stage_settings.parse("figures", text)
    target, manifest = Target(**settings["target"]), read_manifest(Path(settings["manifest"]), images=False)
    labels = read_labels(manifest.column(target.column), target.model_copy(update={"log": False}))
    tables = {path.stem: path for path in features}
    panels = [(title, pd.read_parquet(tables[row])) for title, row in settings["panels"]]
    feature_maps(panels, labels, target.name, out)


def _freeze(path: Path, scans: Sequence[str]) -> list[str]:
    """The frozen scans; `scans` when nobody froze any yet. Safe when several jobs come at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = path.with_name(f".{path.name}.{os.getpid()}")
    ours.write_text("".join(f"{scan}\n" for scan in scans))
    try:
        os.link(ours, path)  # fails when another job was first
    except FileExistsError:
        tell(f"pretraining uses the scans of {path.name}, frozen before")
    finally:
        ours.unlink()
    return path.read_text().split()


def _stores(scans: Path, atlas: str | None = None) -> tuple[list["Store"], list[str]]:
    """The stores of the cohort and the subject of each."""
    from ctssl.store.reader import open_store

    rows = _some_rows(scans)
    stores = []
    with Progress("opening stores", len(rows), "stores") as progress:
        for row in rows:
            stores.append(open_store(_path(scans, row), atlas=atlas))
            progress.advance()
    return stores, [row["subject"] for row in rows]


def _path(scans: Path, row: dict[str, str]) -> Path:
    """Where the store of a row lies; relative paths start at the table."""
    return (scans.parent / row["path"]).resolve()


def _some_rows(scans: Path) -> list[dict[str, str]]:
    rows = read_rows(scans)
    if not rows:
        raise CohortError("no scan has a patch store", "failures.csv and `ctssl status` say why")
    return rows
