"""The tables of docs/results/protocol.md, made of the csv files that the workflow wrote beside it."""

from pathlib import Path

import pandas as pd

from ctssl.evaluate.tables_confounding import ABOUT

RESULTS = Path(__file__).parents[2] / "docs/results"
SHOWN = {"r2": (1, 2), "accuracy": (100, 1), "concordance": (1, 2)}
"""Metric that the page shows -> its factor, its decimals."""


def read(name: str) -> pd.DataFrame:
    """The lines of a table that the page shows: of the shown metrics."""
    table = pd.read_csv(RESULTS / name, keep_default_na=False, na_values=[""])
    return table[table.metric.isin(SHOWN)]


def values() -> str:
    """Every row and target: pooled value and interval, and whether it differs from the untrained network."""
    probes, pairs = read("protocol/probes.csv"), read("protocol/pairs.csv")
    differs = {(pair.row, pair.target) for pair in pairs.itertuples() if pair.p_holm < 0.05}
    return _table(
        probes,
        probes.target.unique(),
        lambda line: cell(line) + (" *" if (line.row, line.target) in differs else ""),
    )


def sites() -> str:
    """Of each row with features: what they know of the site, and targets where it was never seen."""
    known = read("protocol/confounding.csv")
    known = known[known.question == ABOUT]
    inside, left_out = read("protocol/probes.csv"), read("protocol/by-site.csv")
    left_out = left_out[left_out.left_out.isna()]
    targets = ("fev1pp", "severe-emphysema", "gold", "ground-glass")
    head = ["row", "site", "kernel", *(f"{target}: seen, never seen" for target in targets)]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in left_out.row.unique():
        cells = [row]
        for confounder in ("site", "kernel"):
            cells.append(_one(known, row, confounder, interval=False))
        for target in targets:
            cells.append(", ".join(_one(table, row, target, interval=False) for table in (inside, left_out)))
        lines.append(_line(cells))
    return "\n".join(lines)


def few_labels() -> str:
    """R² of lung function by the share of training subjects that are labelled, mean over draws (their sd)."""
    curves = read("protocol/curves.csv")
    curves = curves[curves.target == "fev1pp"]
    shares = sorted(curves.share.unique())
    subjects = curves.groupby("share").subjects.mean()
    head = ["row", *(f"{share:.0%} ({subjects[share]:.0f})" for share in shares)]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in curves.row.unique():
        points = {point.share: point for point in curves[curves.row == row].itertuples()}
        lines.append(_line([row, *(_point(points[share]) for share in shares)]))
    return "\n".join(lines)


def transfer() -> str:
    """Every row of the second cohort, with the cohort that its network learnt from."""
    probes = read("transfer/probes.csv")
    of = dict(zip(probes.row, probes.pretrained_on, strict=True))
    return _table(probes, probes.target.unique(), cell, of)


TABLES = {"values": values, "sites": sites, "few labels": few_labels, "transfer": transfer}


def cell(line, *, interval: bool = True) -> str:
    """A value as the page shows it, with its interval."""
    if pd.isna(line.value):
        return "–"
    factor, digits = SHOWN[line.metric]
    number, low, high = (f"{factor * x:.{digits}f}" for x in (line.value, line.low, line.high))
    return f"{number} ({low} to {high})" if interval else number


def _one(table, row, target, *, interval):
    found = list(table[(table.row == row) & (table.target == target)].itertuples())
    assert len(found) < 2, f"{row}, {target}: {len(found)} lines of one seed"
    return cell(found[0], interval=interval) if found else "–"


def _point(point):
    if pd.isna(point.value):
        return "–"
    return f"{point.value:.2f}" + (f" ({point.sd:.2f})" if point.sd == point.sd else "")


def _table(probes, targets, of, learnt_from=None):
    more = ["learnt from"] if learnt_from else []
    head = ["row", *more, *targets]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in probes.row.unique():
        found = {line.target: line for line in probes[probes.row == row].itertuples()}
        cells = [of(found[target]) if target in found else "–" for target in targets]
        lines.append(_line([row, *([learnt_from[row]] if learnt_from else []), *cells]))
    return "\n".join(lines)


def _line(cells):
    return "| " + " | ".join(cells) + " |"
