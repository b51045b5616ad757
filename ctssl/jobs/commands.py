"""`ctssl stage ...`: the commands that the rules call. A log's first line repeats the command."""

import json
import shlex
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from ctssl.errors import CtsslError, MachineFault, machine_fault
from ctssl.files import writing_to
from ctssl.jobs import atlas as atlas_job
from ctssl.jobs import boxes as box_jobs
from ctssl.jobs import cohort as cohort_jobs
from ctssl.jobs import folds as fold_jobs
from ctssl.jobs import packing, study, supervise
from ctssl.jobs import scan as scan_jobs
from ctssl.log import keep, redirect, say
from ctssl.prepare.machine import Machine
from ctssl.train.host import keep_memory

PATH = click.Path(path_type=Path)
_WRITTEN = ("out", "failures", "weights", "csv")  # where a job writes, by the first of these that it has


@click.group(help="One job of the workflow; the rules call these.")
def stage() -> None:
    """Group of the rules' commands."""


def _job(*paths: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command of the group with --settings, --log and required paths; it dies with snakemake."""

    def decorate(function: Callable[..., None]) -> click.Command:
        def body(log: Path | None, **values: Any) -> None:
            supervise.die_with_snakemake()
            attempt = values.get("attempt", 1)
            try:
                redirect(log, attempt)
                say(shlex.join(["ctssl", *sys.argv[1:]]))
                with ExitStack() as failed, writing_to(next(values[n] for n in _WRITTEN if n in values)):
                    if attempt < values.get("tries", 1):
                        failed.callback(keep)
                    function(**values)
                    failed.pop_all()
            except CtsslError:  # some are OSErrors too
                raise
            except OSError as error:
                if error.errno is None:  # a library's word on what it read, not the system's
                    raise
                say(traceback.format_exc())
                fault = machine_fault(error)
                what = f"{function.__name__} could not run: {fault.message}"
                raise MachineFault(what, fault.advice) from error

        body.__doc__ = function.__doc__
        command = stage.command(function.__name__)(body)
        command.params += getattr(function, "__click_params__", [])
        command.params += [click.Option([f"--{p}"], type=PATH, required=True) for p in paths]
        command.params += [click.Option(["--settings"], required=True), click.Option(["--log"], type=PATH)]
        return command

    return decorate


def _machine_limits(function: Callable[..., None]) -> Callable[..., None]:
    function = click.option("--time-s", type=float, required=True, help="longer counts as a crash")(function)
    return click.option("--memory-mb", type=int, required=True, help="more counts as a crash")(function)


def _attempts(function: Callable[..., None]) -> Callable[..., None]:
    function = click.option("--attempt", type=int, default=1)(function)
    return click.option("--tries", type=int, default=1, help="a crash in the last one excludes a scan")(
        function
    )


def _scan_options(function: Callable[..., None]) -> Callable[..., None]:
    return _machine_limits(_attempts(click.option("--scan", required=True)(function)))


def _reading_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--max-voxels", type=int, required=True),
        click.option("--mask-device", default="cpu"),
        click.option("--mask-weights", default="download", help="a .pth file, or: download"),
    ):
        function = option(function)
    return function


def _reader(values: dict[str, Any]) -> Machine:
    weights = values["mask_weights"]
    return Machine(
        max_voxels=values["max_voxels"],
        device=values["mask_device"],
        weights=None if weights == "download" else Path(weights),
        memory_gb=values["memory_mb"] / 1000,
    )


def _machine_options(function: Callable[..., None]) -> Callable[..., None]:
    function = click.option("--device", type=click.Choice(["cuda", "cpu", "auto"]), required=True)(function)
    return click.option("--threads", type=int, required=True)(function)


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


@_job("out")
@_machine_limits
@_reading_options
def atlas(settings: str, out: Path, **values: Any) -> None:
    """Make the atlas."""
    limits = supervise.Limits(values["time_s"], values["memory_mb"])
    atlas_job.make(settings, out, _reader(values), limits)


@_job("atlas", "out")
@_scan_options
@_reading_options
def volume(**values: Any) -> None:
    """Read one scan and mask its lungs."""
    scan_jobs.volume(_scan_job("volume", values), _reader(values))


@_job("atlas", "volume", "out", "picture")
@_scan_options
def register(volume: Path, picture: Path, **values: Any) -> None:
    """Register one scan and map the landmarks."""
    scan_jobs.register(_scan_job("register", values), volume, picture)


@_job("atlas", "volume", "registration", "out")
@_scan_options
def store(volume: Path, registration: Path, **values: Any) -> None:
    """Write the patch store of one scan."""
    scan_jobs.store(_scan_job("store", values), volume, registration)


@_job("atlas", "volume", "out")
@_scan_options
def box(volume: Path, **values: Any) -> None:
    """Write the box of one scan's lungs."""
    box_jobs.box(_scan_job("box", values), volume)


@_job("scans", "out")
def pack(settings: str, scans: Path, out: Path) -> None:
    """Bring the packed copy of all stores up to date."""
    packing.pack(settings, scans, out)


@_job("failures", "quality", "scans", "sheet")
def cohort(settings: str, **out: Path) -> None:
    """Write the tables of the cohort and its contact sheet."""
    cohort_jobs.cohort(settings, cohort_jobs.CohortTables(**out))


@_job("failures", "quality", "out")
def enough(settings: str, **paths: Path) -> None:
    """Fail when too many scans are excluded."""
    cohort_jobs.enough(settings, **paths)


@_job("out")
def run_settings(settings: str, out: Path) -> None:
    """Write what a run depends on."""
    out.write_text(settings + "\n")


@_job("atlas", "scans", "weights")
@click.option("--seed", type=int, required=True)
@click.option("--threads", type=int, required=True, help="CPU threads of all devices together")
@click.option("--machine", required=True, help="JSON: the rest of section pretraining")
@click.option("--packed", default="none", help="card of a packed copy, read in place of the stores; or: none")
@click.option("--about", default="{}", help="JSON: licence of the data and preparation, for the card")
@_attempts
def pretrain(settings: str, threads: int, machine: str, packed: str, about: str, **values: Any) -> None:
    """Pretrain one run."""
    keep_memory()
    rest = json.loads(machine)
    threads = max(1, threads // rest["devices"])
    copy = None if packed == "none" else Path(packed)
    del values["attempt"], values["tries"]  # they concern the log alone
    machine_options = rest | {"threads": threads}
    study.pretrain(settings, machine=machine_options, packed=copy, about=json.loads(about), **values)


@_job("out")
def fold_settings(settings: str, out: Path) -> None:
    """Write what the trainings of a supervised run for a target depend on."""
    out.write_text(settings + "\n")


@_job("atlas", "scans", "splits", "out")
@click.option("--seed", type=int, required=True)
@click.option("--fold", type=int, required=True)
@click.option("--threads", type=int, required=True, help="CPU threads of all devices together")
@click.option("--machine", required=True, help="JSON: the rest of section pretraining")
@click.option("--packed", default="none", help="card of a packed copy, read in place of the stores; or: none")
@click.option("--about", default="{}", help="JSON: licence of the data and preparation, for the card")
@_attempts
def fold(settings: str, threads: int, machine: str, packed: str, about: str, **values: Any) -> None:
    """Train a network on the labels of one fold's training part, and predict the rest."""
    keep_memory()
    rest = json.loads(machine)
    machine_options = rest | {"threads": max(1, threads // rest["devices"])}
    copy = None if packed == "none" else Path(packed)
    del values["attempt"], values["tries"]  # they concern the log alone
    fold_jobs.fold(settings, machine=machine_options, packed=copy, about=json.loads(about), **values)


@_job("scans", "splits", "out")
@click.argument("records", type=PATH, nargs=-1, required=True)
def join(settings: str, records: tuple[Path, ...], scans: Path, splits: Path, out: Path) -> None:
    """Say together what the folds of the RECORDS predict."""
    fold_jobs.join(settings, records, scans, splits, out)


@_job("atlas", "scans", "weights", "out")
@_machine_options
def features(settings: str, device: Any, threads: int, **values: Any) -> None:
    """Write the features of all scans."""
    keep_memory()
    study.features(settings, machine=study.Machine(device, threads), **values)


@_job("scans", "out")
def baseline(settings: str, scans: Path, out: Path) -> None:
    """Write a hand-made feature of all scans."""
    study.baseline(settings, scans, out)


@_job("scans", "out")
def splits(settings: str, scans: Path, out: Path) -> None:
    """Write or extend the folds."""
    study.splits(settings, scans, out)


@_job("features", "splits", "out", "final")
def probe(settings: str, features: Path, splits: Path, out: Path, final: Path) -> None:
    """Predict one target from one table of features: each label by cross-validation, what has none by all."""
    study.probe(settings, features, splits, out, final)


@_job("csv", "markdown")
@click.argument("probes", type=PATH, nargs=-1, required=True)
def tables(settings: str, probes: tuple[Path, ...], csv: Path, markdown: Path) -> None:
    """Write the result tables from all PROBES."""
    study.tables(settings, probes, csv, markdown)


@_job("out")
@click.argument("features", type=PATH, nargs=-1, required=True)
def figures(settings: str, features: tuple[Path, ...], out: Path) -> None:
    """Write the figures from the FEATURES of all runs."""
    study.figures(settings, features, out)
