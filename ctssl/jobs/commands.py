"""`ctssl stage ...`: the commands that the rules call. A log's first line repeats the command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ctssl.jobs import atlas as atlas_job
from ctssl.jobs import boxes as box_jobs
from ctssl.jobs import cohort as cohort_jobs
from ctssl.jobs import commands_evaluate, packing, study, supervise
from ctssl.jobs import folds as fold_jobs
from ctssl.jobs import scan as scan_jobs
from ctssl.jobs.stage import PATH, attempts, job, machine_options, stage
from ctssl.prepare.machine import Machine
from ctssl.train.host import keep_memory

__all__ = ["commands_evaluate", "stage"]


def _machine_limits(function: Callable[..., None]) -> Callable[..., None]:
    function = click.option("--time-s", type=float, required=True, help="longer counts as a crash")(function)
    return click.option("--memory-mb", type=int, required=True, help="more counts as a crash")(function)


def _scan_options(function: Callable[..., None]) -> Callable[..., None]:
    return _machine_limits(attempts(click.option("--scan", required=True)(function)))


def _reading_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--max-voxels", type=int, required=True),
        click.option("--mask-device", default="cpu"),
        click.option("--mask-weights", default="download", help="a .pth file, or: download"),
    ):
        function = option(function)
    return function


def _training_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--about", default="{}", help="JSON: licence of the data and preparation, for the card"),
        click.option("--packed", default="none", help="card of a packed copy, read in place of the stores"),
        click.option("--machine", required=True, help="JSON: the rest of section pretraining"),
        click.option("--threads", type=int, required=True, help="CPU threads of all devices together"),
        click.option("--seed", type=int, required=True),
    ):
        function = option(function)
    return attempts(function)


def _reader(values: dict[str, Any]) -> Machine:
    weights = values["mask_weights"]
    return Machine(
        max_voxels=values["max_voxels"],
        device=values["mask_device"],
        weights=None if weights == "download" else Path(weights),
        memory_gb=values["memory_mb"] / 1000,
    )


def _scan_job(stage_name: str, values: dict[str, Any]) -> scan_jobs.ScanJob:
    return scan_jobs.ScanJob(
        stage=stage_name,
        scan=values["scan"],
        settings=values["settings"],
        out=values["out"],
        atlas=values["atlas"],
        limits=supervise.Limits(values["time_s"], values["memory_mb"]),
        last_attempt=values["attempt"] >= values["tries"],
    )


@job("out")
@_machine_limits
@_reading_options
def atlas(settings: str, out: Path, **values: Any) -> None:
    """Make the atlas."""
    limits = supervise.Limits(values["time_s"], values["memory_mb"])
    atlas_job.make(settings, out, _reader(values), limits)


@job("atlas", "out")
@_scan_options
@_reading_options
def volume(**values: Any) -> None:
    """Read one scan and mask its lungs."""
    scan_jobs.volume(_scan_job("volume", values), _reader(values))


@job("atlas", "volume", "out", "picture")
@_scan_options
def register(volume: Path, picture: Path, **values: Any) -> None:
    """Register one scan and map the landmarks."""
    scan_jobs.register(_scan_job("register", values), volume, picture)


@job("atlas", "volume", "registration", "out")
@_scan_options
def store(volume: Path, registration: Path, **values: Any) -> None:
    """Write the patch store of one scan."""
    scan_jobs.store(_scan_job("store", values), volume, registration)


@job("atlas", "volume", "out")
@_scan_options
def box(volume: Path, **values: Any) -> None:
    """Write the box of one scan's lungs."""
    box_jobs.box(_scan_job("box", values), volume)


@job("scans", "out")
def pack(settings: str, scans: Path, out: Path) -> None:
    """Bring the packed copy of all stores up to date."""
    packing.pack(settings, scans, out)


@job("failures", "quality", "scans", "sheet")
def cohort(settings: str, **out: Path) -> None:
    """Write the tables of the cohort and its contact sheet."""
    cohort_jobs.cohort(settings, cohort_jobs.CohortTables(**out))


@job("failures", "quality", "out")
def enough(settings: str, **paths: Path) -> None:
    """Fail when too many scans are excluded."""
    cohort_jobs.enough(settings, **paths)


@job("out")
def run_settings(settings: str, out: Path) -> None:
    """Write what a run depends on."""
    out.write_text(settings + "\n")


@job("atlas", "scans", "weights")
@_training_options
def pretrain(**values: Any) -> None:
    """Pretrain one run."""
    _pretrain(**values)


def _pretrain(settings: str, threads: int, machine: str, packed: str, about: str, **values: Any) -> None:
    keep_memory()
    rest = json.loads(machine)
    threads = max(1, threads // rest["devices"])
    copy = None if packed == "none" else Path(packed)
    del values["attempt"], values["tries"]  # they concern the log alone
    machine_options = rest | {"threads": threads}
    study.pretrain(settings, machine=machine_options, packed=copy, about=json.loads(about), **values)


@job("atlas", "scans", "splits", "weights", "members")
@click.option("--fold", type=int, required=True)
@_training_options
def pretrain_inside(fold: int, splits: Path, members: Path, **values: Any) -> None:
    """Pretrain one run on the training subjects of one fold."""
    _pretrain(**values, inside=study.Fold(fold, splits, members))


@job("out")
def fold_settings(settings: str, out: Path) -> None:
    """Write what the trainings of a supervised run for a target depend on."""
    out.write_text(settings + "\n")


@job("atlas", "scans", "splits", "out")
@click.option("--fold", type=int, required=True)
@_training_options
def fold(settings: str, threads: int, machine: str, packed: str, about: str, **values: Any) -> None:
    """Train a network on the labels of one fold's training part, and predict the rest."""
    keep_memory()
    rest = json.loads(machine)
    machine_options = rest | {"threads": max(1, threads // rest["devices"])}
    copy = None if packed == "none" else Path(packed)
    del values["attempt"], values["tries"]  # they concern the log alone
    fold_jobs.fold(settings, machine=machine_options, packed=copy, about=json.loads(about), **values)


@job("scans", "splits", "out")
@click.argument("records", type=PATH, nargs=-1, required=True)
def join(settings: str, records: tuple[Path, ...], scans: Path, splits: Path, out: Path) -> None:
    """Say together what the folds of the RECORDS predict."""
    fold_jobs.join(settings, records, scans, splits, out)


@job("atlas", "scans", "weights", "out")
@machine_options
def features(settings: str, device: Any, threads: int, **values: Any) -> None:
    """Write the features of all scans."""
    keep_memory()
    study.features(settings, machine=study.Machine(device, threads), **values)


@job("scans", "out")
def baseline(settings: str, scans: Path, out: Path) -> None:
    """Write a hand-made feature of all scans."""
    study.baseline(settings, scans, out)
