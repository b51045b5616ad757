"""The jobs that learn from the stores: pretraining, features, folds, probes, result tables."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctssl import settings as stage_settings
from ctssl.cards import open_file
from ctssl.config.methods import OPTIONS
from ctssl.config.study import Pretraining, Target
from ctssl.errors import CohortError
from ctssl.jobs.boxes import folder_of, open_boxes, with_boxes
from ctssl.jobs.predict import write_final
from ctssl.jobs.rows import check_unchanged, read_features, read_rows, some_rows
from ctssl.log import tell
from ctssl.manifest import read_manifest

if TYPE_CHECKING:
    from ctssl.store.boxes import Box
    from ctssl.store.reader import Store
    from ctssl.train.jobfile import JobFile


VOLUMES = Path("cache", "volumes")
"""Below the results: whole volumes on the voxels that methods ask for."""


@dataclass(frozen=True)
class Machine:
    """What an extraction runs on: device as in the config, CPU threads."""

    device: Literal["cuda", "cpu", "auto"]
    threads: int


def pretrain(
    text: str,
    seed: int,
    atlas: Path,
    scans: Path,
    weights: Path,
    machine: dict[str, Any],
    packed: Path | None = None,
    about: dict[str, Any] | None = None,
) -> None:
    """Pretrain one run on its frozen scans; the first job freezes those that have a store.

    Args:
        text: the rule's settings.
        seed: of the training.
        atlas: folder.
        scans: the cohort's table.
        weights: file to write.
        machine: what of `pretraining` results do not depend on.
        packed: card of a packed copy, which is read in place of the stores.
        about: what else the weights' card says.
    """
    settings = stage_settings.parse("pretrain", text)
    rows = {row["scan"]: row for row in read_rows(scans)}
    chosen = [rows[scan] for scan in _freeze(weights.parents[2] / "scans.txt", list(rows)) if scan in rows]
    pretraining = Pretraining(**machine, precision=settings["precision"])
    chosen = with_boxes(scans, chosen) if OPTIONS[settings["run"]["method"]].boxes else chosen
    path = weights.parent / "job.json"
    job_file(settings, pretraining, chosen, seed, atlas, scans, path, packed, about).write(path)
    train_job(path, pretraining)


def job_file(
    settings: dict[str, Any],
    machine: Pretraining,
    rows: Sequence[dict[str, str]],
    seed: int,
    atlas: Path,
    scans: Path,
    path: Path,
    packed: Path | None,
    about: dict[str, Any] | None,
    labels: dict[str, Any] | None = None,
) -> "JobFile":
    """What one training is to do on these rows of the cohort's table, to be written to `path`.

    The other arguments are those of `pretrain`; `labels` are as ctssl.train.labels has them.
    """
    from ctssl.train.jobfile import JobFile

    boxed = OPTIONS[settings["run"]["method"]].boxes
    return JobFile(
        run=settings["run"],
        pretraining=machine.model_dump(mode="json"),
        atlas=str(atlas),
        stores=[str(store_path(scans, row)) for row in rows],
        packed=str(packed.parent) if packed else None,
        digests={row["scan"]: row["store"] for row in rows},
        subjects=[row["subject"] for row in rows],
        seed=seed,
        out=str(path.parent),
        about=about or {},
        boxes=[str(folder_of(scans, row)) for row in rows] if boxed else [],
        cache=str(scans.parent / VOLUMES) if boxed else None,
        labels=labels,
    )


def train_job(path: Path, machine: Pretraining) -> None:
    """Nothing; trains what a job's file says, on as many devices as asked for, and removes the file."""
    if machine.devices > 1:
        from ctssl.train.launch import train_together

        train_together(path, machine)
    else:
        from ctssl.train.jobfile import read_job
        from ctssl.train.loop import pretrain as train

        train(read_job(path))
    path.unlink()


def features(text: str, atlas: Path, scans: Path, weights: Path, machine: Machine, out: Path) -> None:
    """Write the features of every scan that has a store."""
    from ctssl.evaluate.features import extract
    from ctssl.prepare.atlas import read_atlas

    stage_settings.parse("features", text)
    chest = read_atlas(atlas)
    stores, subjects = _stores(scans, chest.id)

    def boxes() -> "dict[str, Box]":
        return open_boxes(scans, with_boxes(scans, read_rows(scans)), chest.id)

    extract(
        weights,
        chest,
        stores,
        subjects,
        boxes=boxes,
        cache=scans.parent / "cache" / "features",
        volumes=scans.parent / VOLUMES,
        out=out,
        device=machine.device,
        threads=machine.threads,
    )


def baseline(text: str, scans: Path, out: Path) -> None:
    """Write hand-made features of every scan that has a store."""
    from ctssl.evaluate.baselines import Cohort, write_baseline

    settings = stage_settings.parse("baseline", text)
    cohort = Cohort(*_stores(scans), cache=scans.parent / "cache" / "baselines")
    write_baseline(settings["baseline"], settings["options"], cohort, out)


def splits(text: str, scans: Path, out: Path) -> None:
    """Write or extend the folds: subjects that have one keep it."""
    from ctssl.evaluate.splits import write_splits

    settings = stage_settings.parse("splits", text)
    manifest = read_manifest(Path(settings["manifest"]), images=False)
    strata = None
    if settings["stratify"]:
        labels = manifest.column(settings["stratify"])
        strata = {row["subject"]: labels[row["scan"]] for row in reversed(read_rows(scans))}
    subjects = list(dict.fromkeys(row["subject"] for row in some_rows(scans)))
    write_splits(out, subjects, strata, settings["folds"], settings["split_seed"])


def probe(text: str, features: Path, splits: Path, out: Path, final: Path) -> None:
    """Write the cross-validated prediction of one target, and the probe of all its labels (`final`)."""
    from ctssl.evaluate.handmade.steps import split_off
    from ctssl.evaluate.labels import read_labels
    from ctssl.evaluate.probes import probe as cross_validate
    from ctssl.evaluate.probes import write_probe
    from ctssl.evaluate.splits import read_splits

    settings = stage_settings.parse("probe", text)
    target, manifest = Target(**settings["target"]), read_manifest(Path(settings["manifest"]), images=False)
    column = manifest.column(target.column)
    check_unchanged(settings["labels"], stage_settings.label_digest(column), manifest)
    known, folds = read_labels(column, target), read_splits(splits)
    table, step = split_off(read_features(features), known.index)
    write_probe(out, cross_validate(table, known, folds, target, step=step))
    write_final(final, table, known, folds, target, step=step)


def tables(text: str, probes: Sequence[Path], csv_path: Path, markdown: Path) -> None:
    """Write the result tables: one row a run or baseline, one column a target."""
    from ctssl.evaluate.probes import read_probe
    from ctssl.evaluate.tables import write_tables

    settings = stage_settings.parse("tables", text)
    targets = [Target(**t) for t in settings["targets"]]
    read = {(path.parent.name, path.stem): read_probe(path) for path in probes}
    results = {
        title: {
            f"seed{seed}": {
                t.name: read[f"{name}_seed{seed}_{part}", t.name]
                for t in targets
                if asked is None or t.name in asked
            }
            for seed in seeds
        }
        for title, name, seeds, part, asked in settings["rows"]
    }
    write_tables(results, targets, csv_path, markdown)


def figures(text: str, features: Sequence[Path], out: Path) -> None:
    """Write the map of the features of every run, coloured by the first target."""
    from ctssl.evaluate.figures import feature_maps
    from ctssl.evaluate.labels import read_labels

    settings = stage_settings.parse("figures", text)
    target, manifest = Target(**settings["target"]), read_manifest(Path(settings["manifest"]), images=False)
    labels = read_labels(manifest.column(target.column), target.model_copy(update={"log": False}))
    tables = {path.stem: path for path in features}
    panels = [(title, read_features(tables[row])) for title, row in settings["panels"]]
    feature_maps(panels, labels, target.name, out)


def _freeze(path: Path, scans: Sequence[str]) -> list[str]:
    """The frozen scans; `scans` when nobody froze any yet. Safe when several jobs come at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        ours.write_text("".join(f"{scan}\n" for scan in scans))
        os.link(ours, path)  # fails when another job was first
    except FileExistsError:
        tell(f"pretraining uses the scans of {path.name}, frozen before")
    finally:
        ours.unlink(missing_ok=True)
    try:
        with open_file(path) as file:
            return file.read().decode().split()
    except ValueError as error:
        raise CohortError(
            f"{path} cannot be read: {error}", "`ctssl refresh RUN` begins the run anew"
        ) from error


def _stores(scans: Path, atlas: str | None = None) -> tuple[list["Store"], list[str]]:
    """The stores of the cohort and the subject of each."""
    from ctssl.store.reader import open_named

    rows = some_rows(scans)
    digests = {row["scan"]: row["store"] for row in rows}
    stores = open_named([store_path(scans, row) for row in rows], digests, atlas=atlas)
    return stores, [row["subject"] for row in rows]


def store_path(scans: Path, row: dict[str, str]) -> Path:
    """Where the store of a row lies; relative paths start at the table."""
    return (scans.parent / row["path"]).resolve()
