"""`ctssl stage ...`: the commands of rules that evaluate."""

import json
from pathlib import Path

import click

from ctssl.jobs import confounding as confounding_jobs
from ctssl.jobs import probes as probe_jobs
from ctssl.jobs import scores as score_jobs
from ctssl.jobs import tables as table_jobs
from ctssl.jobs.stage import PATH, job


@job("scans", "out")
def splits(settings: str, scans: Path, out: Path) -> None:
    """Write or extend the folds."""
    probe_jobs.splits(settings, scans, out)


@job("scans", "out")
def splits_again(settings: str, scans: Path, out: Path) -> None:
    """Write or extend the folds of a repeat."""
    probe_jobs.splits(settings, scans, out)  # a rule calls the command of its name


@job("scans", "out")
def splits_by(settings: str, scans: Path, out: Path) -> None:
    """Write the folds that leave out one value of a column each."""
    probe_jobs.splits_by(settings, scans, out)


@job("features", "out", "final")
@click.argument("splits", type=PATH, nargs=-1, required=True)
def probe(settings: str, features: Path, splits: tuple[Path, ...], out: Path, final: Path) -> None:
    """Predict one target from one table of features: each label over the folds of SPLITS, the rest by all."""
    probe_jobs.probe(settings, features, splits, out, final)


@job("features", "splits", "out")
def probe_by(settings: str, **paths: Path) -> None:
    """Predict one target over folds that leave out one value of a column each."""
    probe_jobs.probe_by(settings, **paths)


@job("splits", "out")
@click.argument("pairs", type=PATH, nargs=-1, required=True)
def probe_inside(settings: str, pairs: tuple[Path, ...], splits: Path, out: Path) -> None:
    """Predict one target from PAIRS: features by the network of each fold, and who that was trained on."""
    probe_jobs.probe_inside(settings, pairs[::2], pairs[1::2], splits, out)


@job("csv", "markdown")
@click.argument("probes", type=PATH, nargs=-1, required=True)
@click.option("--about", default="{}", help="JSON: how the scans of the study are prepared")
@click.option("--asked", default="null", help="JSON: names of all pages that are asked for; others go")
def tables(
    settings: str, probes: tuple[Path, ...], csv: Path, markdown: Path, about: str, asked: str
) -> None:
    """Write the result tables from all PROBES."""
    table_jobs.tables(settings, probes, csv, markdown, json.loads(about), json.loads(asked))


@job("csv", "markdown", "latex")
@click.argument("probes", type=PATH, nargs=-1, required=True)
@click.option("--about", default="{}", help="JSON: how the scans of the study are prepared")
def paper(settings: str, probes: tuple[Path, ...], about: str, **out: Path) -> None:
    """Write figures from all PROBES in the layout of the paper, beside the published ones."""
    table_jobs.paper(settings, probes, about=json.loads(about), **out)


@job("features", "scans", "out")
@click.argument("splits", type=PATH, nargs=-1, required=True)
def confounder(settings: str, splits: tuple[Path, ...], **paths: Path) -> None:
    """Predict one confounder from one table of features, over the folds of each of SPLITS."""
    confounding_jobs.confounder(settings, splits=splits, **paths)


@job("scans", "out")
@click.argument("splits", type=PATH, nargs=-1, required=True)
def alone(settings: str, splits: tuple[Path, ...], **paths: Path) -> None:
    """Predict one target from one confounder and nothing else, over the folds of each of SPLITS."""
    confounding_jobs.alone(settings, splits=splits, **paths)


@job("csv", "markdown")
@click.argument("probes", type=PATH, nargs=-1, required=True)
def tables_by(settings: str, probes: tuple[Path, ...], csv: Path, markdown: Path) -> None:
    """Write the tables of PROBES that leave out one value of a column at a time."""
    table_jobs.tables_by(settings, probes, csv, markdown)


@job("csv", "markdown")
@click.argument("probes", type=PATH, nargs=-1, required=True)
def confounding(settings: str, probes: tuple[Path, ...], csv: Path, markdown: Path) -> None:
    """Write the tables of confounding from all PROBES of confounders."""
    table_jobs.confounding(settings, probes, csv, markdown)


@job("csv", "markdown")
@click.argument("probes", type=PATH, nargs=-1, required=True)
def pairs(settings: str, probes: tuple[Path, ...], csv: Path, markdown: Path) -> None:
    """Write how much the rows of all PROBES differ from one of them."""
    score_jobs.pairs(settings, probes, csv, markdown)


@job("features", "splits", "out")
def curve(settings: str, **paths: Path) -> None:
    """Predict one target from one table of features with ever more labels."""
    score_jobs.curve(settings, **paths)


@job("csv", "figure")
@click.argument("found", type=PATH, nargs=-1, required=True)
def curves(settings: str, found: tuple[Path, ...], csv: Path, figure: Path) -> None:
    """Write the table and the figure of all curves that were FOUND."""
    score_jobs.curves(settings, found, csv, figure)


@job("out")
@click.argument("features", type=PATH, nargs=-1, required=True)
def figures(settings: str, features: tuple[Path, ...], out: Path) -> None:
    """Write the figures from the FEATURES of all runs."""
    table_jobs.figures(settings, features, out)
