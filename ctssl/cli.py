"""The `ctssl` command: the only front door. Each subcommand imports what it needs when it runs."""

import sys
from pathlib import Path

import click

from ctssl import __version__
from ctssl.errors import CtsslError
from ctssl.jobs.commands import stage
from ctssl.log import tell

PATH = click.Path(path_type=Path)
EXCLUDED_EXIT = 3


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Anatomy-aware self-supervised representations of chest CT."""


cli.add_command(stage)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--to", type=PATH, default=Path(), help="Where config.yaml and scans.csv go [default: here].")
def init(folder: Path, to: Path) -> None:
    """Write config.yaml and scans.csv for a FOLDER of scans."""
    from ctssl.cohorts.folder import write_study

    click.echo(write_study(folder, to))


@cli.command()
@click.argument("out", type=PATH)
@click.option("--scans", type=click.IntRange(2), default=8, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True)
@click.option("--spacing-mm", type=click.FloatRange(0.5, 8), default=2.0, show_default=True)
@click.option("--slice-mm", type=click.FloatRange(0.5, 10), default=3.0, show_default=True)
def phantom(out: Path, scans: int, seed: int, spacing_mm: float, slice_mm: float) -> None:
    """Write a cohort of synthetic chest CTs with scans.csv and labels into OUT."""
    from ctssl.cohorts.phantom.cohort import CohortPlan, write_cohort
    from ctssl.cohorts.phantom.scan import Scanner

    write_cohort(out, CohortPlan(scans, seed, Scanner(spacing_mm, slice_mm)))


@cli.command()
@click.argument("out", type=PATH)
def samples(out: Path) -> None:
    """Fetch two real public chest CTs with scans.csv into OUT."""
    from ctssl.cohorts.samples import fetch_samples

    fetch_samples(out)


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


@cli.group()
def bench() -> None:
    """Measure; each prints one JSON object."""


@bench.command()
@click.option("--scans", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--json", "out", type=PATH, help="Also write the JSON here.")
def dag(scans: int, out: Path | None) -> None:
    """Time the dry run of a new study of this many scans."""
    from ctssl.bench.dag import bench_dag
    from ctssl.bench.report import report

    report(bench_dag(scans), out)


def main() -> None:
    """Run the command; a user's fault is a message and exit 2, without a traceback."""
    try:
        cli(standalone_mode=True)
    except CtsslError as error:
        tell(f"error: {error}")
        sys.exit(2)
