"""The `ctssl` command: the only front door. Each subcommand imports what it needs when it runs."""

import os
import sys
from pathlib import Path

import click

from ctssl import __version__
from ctssl.bench.commands import bench
from ctssl.cohorts.commands import cohort
from ctssl.errors import CtsslError, machine_fault
from ctssl.imports.commands import import_weights
from ctssl.jobs.commands import stage
from ctssl.log import tell
from ctssl.share.commands import embed, export

PATH = click.Path(path_type=Path)
EXCLUDED_EXIT = 3


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Anatomy-aware self-supervised representations of chest CT."""


cli.add_command(stage)
cli.add_command(bench)
cli.add_command(import_weights)
cli.add_command(embed)
cli.add_command(export)
cli.add_command(cohort)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--to", type=PATH, default=Path(), help="Where config.yaml and scans.csv go [default: here].")
@click.option("--numbered", is_flag=True, help="Ids that tell nothing of file names: scan0001, ...")
def init(folder: Path, to: Path, numbered: bool) -> None:
    """Write config.yaml and scans.csv for a FOLDER of scans."""
    from ctssl.cohorts.folder import write_study

    click.echo(write_study(folder, to, numbered=numbered))


@cli.command()
@click.argument("out", type=PATH)
@click.option("--scans", type=click.IntRange(2), default=8, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True)
@click.option("--spacing-mm", type=click.FloatRange(0.5, 8), default=2.0, show_default=True)
@click.option("--slice-mm", type=click.FloatRange(0.5, 10), show_default="3.0", help="Not with --oracle.")
@click.option("--sites", default="A", show_default=True, help="Hospitals, taken in turn, as A,B,C.")
@click.option("--hard", multiple=True, help="Make each scan this hard case; docs/phantom.md lists them.")
@click.option("--oracle", is_flag=True, help="Patch stores instead of images, cut at the known landmarks.")
@click.option(
    "--pitch-mm", type=click.FloatRange(8), show_default="54.0", help="Of landmarks; --oracle only."
)
@click.option("--boxes", is_flag=True, help="The boxes of whole lungs, too; --oracle only.")
def phantom(
    out: Path,
    scans: int,
    seed: int,
    spacing_mm: float,
    slice_mm: float | None,
    sites: str,
    hard: tuple[str, ...],
    oracle: bool,
    pitch_mm: float | None,
    boxes: bool,
) -> None:
    """Write a cohort of synthetic chest CTs with scans.csv and labels into OUT."""
    from ctssl.cohorts.phantom.cohort import CohortPlan, write_cohort
    from ctssl.cohorts.phantom.oracle import OraclePlan, write_oracle
    from ctssl.cohorts.phantom.scanner import Scanner

    named = tuple(sites.split(","))
    if oracle:
        if slice_mm is not None:
            raise click.UsageError("--slice-mm goes without --oracle: its slices lie as far apart as voxels")
        if hard:
            raise click.UsageError("--hard goes without --oracle: only images can be hard to prepare")
        write_oracle(out, OraclePlan(scans, seed, spacing_mm, pitch_mm or 54.0, sites=named, boxes=boxes))
    else:
        if boxes:
            raise click.UsageError("--boxes goes with --oracle: the workflow cuts boxes from images")
        if pitch_mm is not None:
            raise click.UsageError("--pitch-mm goes with --oracle: images hold no landmarks")
        write_cohort(out, CohortPlan(scans, seed, Scanner(spacing_mm, slice_mm or 3.0, hard=hard), named))


@cli.command()
@click.argument("real", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=PATH)
def compare(real: Path, out: Path) -> None:
    """Draw phantoms beside REAL, a chest CT: planes.png and histogram.png in OUT."""
    from ctssl.cohorts.phantom.pictures import compare as draw

    draw(real, out)


@cli.command()
@click.argument("out", type=PATH)
def samples(out: Path) -> None:
    """Fetch two real public chest CTs with scans.csv into OUT."""
    from ctssl.cohorts.samples import fetch_samples

    fetch_samples(out)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def series(folder: Path) -> None:
    """List the DICOM series below FOLDER, to choose a series_uid: here on the terminal, and nowhere else."""
    from ctssl.log import hushed
    from ctssl.prepare.series import list_series

    with hushed():
        found = list_series(folder)
    click.echo(found)


@cli.command("mask")
@click.argument("image", type=PATH)
@click.argument("out", type=PATH)
@click.option("--method", type=click.Choice(["threshold", "lungmask"]), default="lungmask", show_default=True)
@click.option(
    "--model", type=click.Choice(["R231", "LTRCLobes", "R231CovidWeb"]), default="R231", show_default=True
)
@click.option("--weights", type=PATH, help="lungmask: .pth file, or folder of them [default: downloaded].")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def mask_command(image: Path, out: Path, method: str, model: str, weights: Path | None, device: str) -> None:
    """Mask the lungs of IMAGE (file or DICOM folder): OUT holds 1 right, 2 left on the same voxels."""
    from ctssl.config import read
    from ctssl.jobs.direct import mask
    from ctssl.prepare.machine import Machine

    defaults = read()
    section = {"method": method, "model": model, "min_lung_l": defaults.mask.min_lung_l}
    mask(image, out, section, Machine(defaults.limits.max_voxels, device, weights))


@cli.command("register")
@click.argument("mask", type=PATH)
@click.option("--atlas", type=PATH, required=True, help="Lung mask of the atlas.")
@click.option("--out", type=PATH, required=True, help="Folder for transforms, warped mask, quality.json.")
@click.option("--threads", type=click.IntRange(1), show_default="as config.yaml says")
def register_command(mask: Path, atlas: Path, out: Path, threads: int | None) -> None:
    """Register MASK, lungs as 1 right and 2 left (or 50, 100), to those of an atlas, as config.yaml says."""
    import json

    from ctssl.config import read

    defaults = read()
    settings = defaults.registration
    if threads is not None:
        settings = settings.model_copy(update={"threads": threads})
    for name in ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(settings.threads)  # read once, when the libraries are imported
    from ctssl.jobs.direct import register

    most = defaults.limits.max_voxels
    click.echo(json.dumps(register(mask, atlas, out, settings, defaults.quality, most), indent=1))


@cli.command()
@click.argument("features", type=PATH)
@click.option("--probe", type=PATH, required=True, help="File of a workflow, predictions/ROW/TARGET.json.")
@click.option("--out", type=PATH, required=True, help="File: predictions.csv.")
def predict(features: Path, probe: Path, out: Path) -> None:
    """Write what a fitted probe says of FEATURES, a table of `ctssl embed` or of a workflow, as csv."""
    from ctssl.jobs.predict import apply_probe

    click.echo(apply_probe(features, probe, out))


@cli.command()
@click.option("--results", type=PATH, default=Path("results"), show_default=True)
def status(results: Path) -> None:
    """Say which scans are ready and which are excluded, and why; exit 3 when any is."""
    from ctssl.jobs.summary import describe

    text, lost = describe(results)
    click.echo(text)
    if lost:
        sys.exit(EXCLUDED_EXIT)


@cli.command()
@click.argument("scans", nargs=-1)
@click.option("--results", type=PATH, default=Path("results"), show_default=True)
def retry(scans: tuple[str, ...], results: Path) -> None:
    """Clear the exclusion of SCANS (all, when none is named): the next run prepares them anew."""
    from ctssl.jobs.summary import retry as clear

    for scan in clear(results, scans):
        click.echo(f"{scan}: will be prepared anew")


@cli.command()
@click.argument("run")
@click.option("--results", type=PATH, default=Path("results"), show_default=True)
def refresh(run: str, results: Path) -> None:
    """Forget which scans RUN was pretrained on, and its weights: the next run pretrains on all scans."""
    from ctssl.jobs.summary import refresh as forget

    forget(results, run)
    click.echo(f"{run}: will be pretrained anew on all scans that have a store")


@cli.command()
@click.option("--results", type=PATH, default=Path("results"), show_default=True)
def show(results: Path) -> None:
    """Say where table, figure and stores of a results folder are, and print the table."""
    from ctssl.jobs.summary import products

    click.echo(products(results))


def main() -> None:
    """Run the command; a user's fault, or the machine's, is a message and exit 2, without a traceback."""
    try:
        cli(standalone_mode=True)
    except (CtsslError, OSError) as error:
        if not isinstance(error, CtsslError) and sys.argv[1:2] == ["stage"]:
            raise  # a job's log shows where
        tell(f"error: {error if isinstance(error, CtsslError) else machine_fault(error)}")
        sys.exit(2)
