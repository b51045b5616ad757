"""The jobs of the whole cohort: tables of scans, pretraining, features, folds, probes, result tables."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctssl import settings as stage_settings
from ctssl.config.prepare import Quality
from ctssl.config.study import Pretraining, Run, Target
from ctssl.errors import CohortError, ManifestError
from ctssl.jobs import prepared
from ctssl.jobs.status import Status
from ctssl.jobs.summary import STAGES
from ctssl.log import Progress, say, tell
from ctssl.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from ctssl.store.reader import Store

FAILURES = ("scan", "subject", "stage", "reason", "advice")
QUALITY = (
    *("scan", "subject", "verdict", "reasons", "dice_right", "dice_left", "min_jacobian"),
    *("landmarks", "valid", "edges", "right_l", "left_l", "laa_950_percent", "cut_bottom", "cut_top"),
)
SCANS = ("scan", "subject", "store", "path")
NOT_MEASURED: dict[str, Any] = {"cut_bottom": False, "cut_top": False} | dict.fromkeys(
    ("dice_right", "dice_left", "min_jacobian"), float("nan")
)
"""What only a registration measures; of a prepared store it may be unknown, and NaN is below no limit."""


@dataclass(frozen=True)
class CohortTables:
    """The tables that the cohort job writes; `scans` stands at the root of the results."""

    failures: Path
    quality: Path
    scans: Path


def cohort(text: str, out: CohortTables) -> None:
    """Write the tables of excluded scans, of quality, and of the scans that have a store.

    Raises:
        ManifestError: the manifest changed since the workflow started.
    """
    from ctssl.prepare.quality import verdict

    settings = stage_settings.parse("cohort", text)
    limits = Quality(**settings["quality"])
    manifest = read_manifest(Path(settings["manifest"]), images=False)
    _unchanged(settings["scans"], stage_settings.digest(stage_settings.members(manifest)), manifest)
    if settings.get("prepared"):
        stores = prepared.stores_from(Path(settings["prepared"]), out.scans.parent)
        outcomes = prepared.outcomes(Path(settings["prepared"]), manifest.rows)
    else:
        stores = Path("stores")
        outcomes = _outcomes(out.scans.parent, manifest.scans)
    lost, table, used = [], [], []
    for row, status in zip(manifest.rows, outcomes, strict=True):
        who = {"scan": row.scan, "subject": row.subject}
        if not status.ok:
            lost.append(who | {"stage": status.stage, "reason": status.reason, "advice": status.advice})
            table.append(who | {"verdict": "exclude", "reasons": f"{status.stage}: {status.reason}"})
            continue
        judged, reasons = verdict(NOT_MEASURED | status.numbers, limits)
        table.append(who | status.numbers | {"verdict": judged, "reasons": "; ".join(reasons)})
        used.append(who | {"store": status.numbers["digest"], "path": stores / row.scan})
    _write(out.failures, FAILURES, lost)
    _write(out.quality, QUALITY, table)
    _write(out.scans, SCANS, used)
    for one in lost:
        say(f"excluded: {one['scan']} at {one['stage']}: {one['reason']}. {one['advice']}")


def enough(text: str, failures: Path, quality: Path, out: Path) -> None:
    """Write how many scans are excluded; a job of its own, so that its failure leaves the tables alone.

    Raises:
        CohortError: more scans are excluded than `max_excluded_fraction` allows.
    """
    limit = stage_settings.parse("enough", text)["max_excluded_fraction"]
    lost, scans = len(_read(failures)), len(_read(quality))
    if lost > limit * scans:
        raise CohortError(
            f"{lost} of {scans} scans are excluded, more than limits.max_excluded_fraction ({limit:g})",
            f"{failures} lists them with advice",
        )
    out.write_text(f"{lost} of {scans} scans excluded\n")


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
    rows = {row["scan"]: row for row in _read(scans)}
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
        strata = {row["subject"]: labels[row["scan"]] for row in reversed(_read(scans))}
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
    _unchanged(settings["labels"], stage_settings.label_digest(column), manifest)
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


def _outcomes(results: Path, scans: Sequence[str]) -> list[Status]:
    """The last status of each scan, in order, with the numbers of all stages."""
    found = []
    with Progress("cohort", len(scans), "scans") as progress:
        for scan in scans:
            status = Status.read(results / "stores" / scan)
            if status.ok:
                each = [Status.read(results / stage / scan).numbers for stage in STAGES]
                status = replace(status, numbers={k: v for numbers in each for k, v in numbers.items()})
            found.append(status)
            progress.advance()
    return found


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


def _unchanged(then: str, now: str, manifest: Manifest) -> None:
    if then != now:
        raise ManifestError(
            f"{manifest.path} changed since the workflow was started", "run the same command again"
        )


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
    rows = _read(scans)
    if not rows:
        raise CohortError("no scan has a patch store", "failures.csv and `ctssl status` say why")
    return rows


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)
