"""The tables of docs/results/protocol.md, made of the csv files that the workflow wrote beside it."""

from pathlib import Path

import pandas as pd

from ctssl.evaluate.tables import in_lines
from ctssl.evaluate.tables_confounding import ABOUT

RESULTS = Path(__file__).parents[2] / "docs/results"
SHOWN = {"r2": (1, 2), "accuracy": (100, 1), "concordance": (1, 2)}
"""Metric that the page shows -> its factor, its decimals."""
SITES = ("A", "B", "C")


def read(name: str, *, shown: bool = True) -> pd.DataFrame:
    """The lines of a table: of the shown metrics, or all."""
    table = pd.read_csv(RESULTS / name, keep_default_na=False, na_values=[""])
    return table[table.metric.isin(SHOWN)] if shown else table


def trainings() -> str:
    """What each network was trained for."""
    table = pd.read_csv(RESULTS / "protocol/trainings.csv", dtype=str)
    return _markdown(table.columns, table.to_numpy())


def targets() -> str:
    """Every target: the metric, how many scans of how many subjects, and classes or events."""
    lines = []
    for line in read("protocol/probes.csv").drop_duplicates("target").itertuples():
        classes = "–" if pd.isna(line.classes) else line.classes.lstrip("'")
        lines.append([line.target, line.metric, str(line.n), str(line.subjects), classes])
    return _markdown(["target", "shown", "scans", "subjects", "classes"], lines)


def values() -> str:
    """Every row and target: value, interval, how it differs from the untrained network; kappa of GOLD."""
    table = read("protocol/probes.csv", shown=False)
    kappa = {line.row: line.value for line in table[table.metric == "kappa"].itertuples()}
    mark = _marks("protocol/pairs.csv")

    def shown(line):
        return mark(line) + (f" κ {kappa[line.row]:.2f}" if line.target == "gold" else "")

    return _table(table[table.metric.isin(SHOWN)], shown)


def image() -> str:
    """Every row and target: the difference from age, sex and pack-years, with its interval."""
    pairs = read("protocol/pairs-clinical.csv").assign(value=lambda p: p.difference)
    return _table(pairs, _marks("protocol/pairs-clinical.csv", sign="+"))


def few_labels() -> str:
    """R² of lung function by the share of training subjects that are labelled, mean over draws (their sd)."""
    curves = read("protocol/curves.csv")
    curves = curves[curves.target == "fev1pp"]
    shares = sorted(curves.share.unique())
    subjects = curves.groupby("share").subjects.mean()
    head = ["row", *(f"{share:.0%} ({subjects[share]:.0f})" for share in shares)]
    lines = []
    for row in curves.row.unique():
        points = _once(curves[curves.row == row], "share")
        lines.append([row, *(_point(points[share]) for share in shares)])
    return _markdown(head, lines)


def confounders() -> str:
    """What each row's features say of site and kernel, and what site and kernel alone say of the targets."""
    table = read("protocol/confounding.csv", shown=False)
    about = table[table.question == ABOUT]
    lines = []
    for row in about.row.unique():
        own = about[about.row == row]
        shown = _once(own[own.metric == "accuracy"], "target")
        auroc = _once(own[own.metric == "auroc"], "target")["kernel"].value
        lines.append([row, cell(shown["site"]), cell(shown["kernel"]), f"{auroc:.2f}"])
    alone = table[(table.question != ABOUT) & table.metric.isin(SHOWN)]
    head = ["row", "site: accuracy", "kernel: accuracy", "kernel: AUROC"]
    return _markdown(head, lines) + "\n\n" + _table(alone, cell)


def sites() -> str:
    """Lung function where the site was in training and where it never was, also at each site, with ranks."""
    seen = read("protocol/probes.csv")
    table = read("protocol/by-site.csv", shown=False)
    table = table.assign(left_out=table.left_out.fillna("all"))
    names = [f"{what} at {site}" for what in ("R²", "ranks") for site in SITES]
    lines = []
    for row in table.row.unique():
        own = table[(table.row == row) & (table.target == "fev1pp")]
        r2, ranks = (_once(own[own.metric == metric], "left_out") for metric in ("r2", "spearman"))
        before = _once(seen[(seen.row == row) & (seen.target == "fev1pp")], "row")[row]
        each = [_number(value[site].value, 2) for value in (r2, ranks) for site in SITES]
        lines.append([row, cell(before), cell(r2["all"]), *each])
    return _markdown(["row", "site seen", "never seen", *names], lines)


def other_sites() -> str:
    """The other targets where the site was in training, and where it never was."""
    seen, table = read("protocol/probes.csv"), read("protocol/by-site.csv")
    table = table[table.left_out.isna()]
    names = [name for name in table.target.unique() if name != "fev1pp"]
    lines = []
    for row in table.row.unique():
        before, after = (_once(t[t.row == row], "target") for t in (seen, table))
        lines.append([row, *(f"{bare(before[name])}, {bare(after[name])}" for name in names)])
    return _markdown(["row", *names], lines)


def inside() -> str:
    """Networks of all scans and of each fold's training scans, and how they differ from the reference."""
    return _table(read("inside/probes.csv"), _marks("inside/pairs.csv"), learnt_from=True)


def transduction() -> str:
    """What each method inside the folds has more than on all scans: difference, interval, p."""
    names = {"inside/pairs.csv": "Ours", "inside/pairs-pcrl.csv": "PCRL"}
    found = []
    for name, title in names.items():
        pairs = read(name)
        assert set(pairs.reference) == {title}
        found.append(pairs[pairs.row == f"{title} inside the folds"].assign(value=lambda p: p.difference))
    return _table(pd.concat(found), lambda line: f"{cell(line, '+')} p {line.p_holm:.2f}")


def transfer() -> str:
    """Every row of the second cohort, with the cohort that its network learnt from."""
    return _table(read("transfer/probes.csv"), _marks("transfer/pairs.csv"), learnt_from=True)


TABLES = {
    "trainings": trainings,
    "targets": targets,
    "values": values,
    "image": image,
    "few labels": few_labels,
    "confounders": confounders,
    "sites": sites,
    "other sites": other_sites,
    "inside": inside,
    "transduction": transduction,
    "transfer": transfer,
}


def cell(line, sign: str = "") -> str:
    """A value as the page shows it, with its interval."""
    factor, digits = SHOWN[line.metric]
    numbers = (_number(factor * x, digits, sign) for x in (line.value, line.low, line.high))
    return "{} ({} to {})".format(*numbers)


def bare(line) -> str:
    """A value as the page shows it."""
    factor, digits = SHOWN[line.metric]
    return _number(factor * line.value, digits)


def _number(value, digits, sign=""):
    if pd.isna(value):
        return "–"
    text = f"{value:{sign}.{digits}f}"
    return text.replace("-", "") if float(text) == 0 else text


def _marks(name, sign=""):
    """What writes a cell, with a mark where the row is better or worse than the reference of these pairs."""
    pairs = read(name)
    marks = {
        (pair.row, pair.target): " ▲" if pair.difference > 0 else " ▼"
        for pair in pairs.itertuples()
        if pair.p_holm < 0.05
    }
    return lambda line: cell(line, sign) + marks.get((line.row, line.target), "")


def _once(lines, key):
    """Value of a column -> its line; each has one, and so one seed."""
    assert lines[key].is_unique, lines
    return {getattr(line, key): line for line in lines.itertuples()}


def _point(point):
    return _number(point.value, 2) + (f" ({point.sd:.2f})" if point.sd == point.sd else "")


def _table(table, of, *, learnt_from=False):
    names = list(table.target.unique())
    head = ["row", *(["learnt from"] if learnt_from else []), *names]
    lines = []
    for row in table.row.unique():
        found = _once(table[table.row == row], "target")
        cells = [of(found[name]) if name in found else "–" for name in names]
        [*before] = {line.pretrained_on for line in found.values()} if learnt_from else ()
        assert len(before) == learnt_from, before
        lines.append([row, *before, *cells])
    return _markdown(head, lines)


def _markdown(head, lines):
    return "\n".join(in_lines([head, ["---"] * len(head), *lines]))
