"""The jobs that learn from the stores, or measure them: pretraining, features, baselines."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctssl import settings as stage_settings
from ctssl.cards import open_file
from ctssl.config.methods import OPTIONS
from ctssl.config.runs import Pretraining
from ctssl.errors import CohortError
from ctssl.jobs.boxes import folder_of, open_boxes, with_boxes
from ctssl.jobs.rows import check_unchanged, read_rows, some_rows, write_rows
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


@dataclass(frozen=True)
class Fold:
    """Which fold a network must not see: its number, the file of the folds, the file to write members to."""

    number: int
    splits: Path
    members: Path

    def train(self, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        """The rows of subjects in other folds.

        Raises:
            CohortError: a subject has no fold.
        """
        from ctssl.evaluate.splits import read_splits

        folds = read_splits(self.splits)
        strange = sorted({row["subject"] for row in rows} - folds.keys())
        if strange:
            raise CohortError(
                f"{self.splits} has no fold for {', '.join(strange[:10])}",
                "delete it and run the same snakemake command, then `ctssl refresh RUN`",
            )
        return [row for row in rows if folds[row["subject"]] != self.number]


def pretrain(
    text: str,
    seed: int,
    atlas: Path,
    scans: Path,
    weights: Path,
    machine: dict[str, Any],
    packed: Path | None = None,
    about: dict[str, Any] | None = None,
    inside: "Fold | None" = None,
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
        inside: train on the frozen scans of this fold's training subjects alone, and write who they are.
    """
    settings = stage_settings.parse("pretrain", text)
    rows = {row["scan"]: row for row in read_rows(scans)}
    chosen = [rows[scan] for scan in _freeze(weights.parents[2] / "scans.txt", list(rows)) if scan in rows]
    chosen = inside.train(chosen) if inside else chosen
    pretraining = Pretraining(**machine, precision=settings["precision"])
    chosen = with_boxes(scans, chosen) if OPTIONS[settings["run"]["method"]].boxes else chosen
    if inside:
        write_rows(inside.members, ("scan", "subject"), chosen)
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
    columns = _columns(settings)
    cohort = Cohort(*_stores(scans), cache=scans.parent / "cache" / "baselines", columns=columns)
    write_baseline(settings["baseline"], settings["options"], cohort, out)


def _columns(settings: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Name -> scan -> text of the columns that a baseline takes from the manifest."""
    if "columns" not in settings:
        return {}
    manifest = read_manifest(Path(settings["manifest"]), images=False)
    for name, then in settings["columns"].items():
        check_unchanged(then, stage_settings.label_digest(manifest.column(name)), manifest)
    return {name: manifest.column(name) for name in settings["columns"]}


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
