"""Our figures in the layout of the paper's tables, beside the published ones: csv, Markdown, LaTeX."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ctssl.escaping import in_csv, in_latex, in_markdown
from ctssl.evaluate.published import Column, Figure, Published
from ctssl.evaluate.tables import Probes, in_lines, mean_and_sd, noted
from ctssl.evaluate.transfer import Origin

PAPER_COLUMNS = (
    *("source", "row", "pretrained_on", "target", "head", "metric", "mean", "sd"),
    *("n", "classes", "majority_percent", "note", "remark"),
)
SHOWN = {"r2": ("R²", 1.0, 2), "accuracy": ("accuracy %", 100.0, 1)}
"""Metric -> what heads its column, factor of what probes measure, decimals."""

PUBLISHED, OURS = "published", "this study"
NOT_REPORTED, NOT_MEASURED = "-", "not measured"
SOURCE = "Sun, Yu, Batmanghelich, AAAI 2021"
HOW = (
    "R² and accuracy are means over folds ± standard deviation over folds (of a run with several seeds: over "
    "seeds); a dash: not reported, or not asked for here; not measured: asked for, and no fold has a value. "
    "Published figures are copied from the paper, and nothing of them was computed here; subjects, labels "
    "and folds of this study may be others, so a difference from them is no test. Rows pretrained on a "
    "cohort and probed on the same one have seen the images, never the labels, of the test folds, in the "
    "paper and here, where the table does not say otherwise."
)

Line = tuple[str, ...]
Show = Callable[["Entry", Column], str]


@dataclass(frozen=True)
class Entry:
    """A line of the table, published or ours.

    Attributes:
        source: PUBLISHED or OURS.
        row: method or label of a row.
        pretrained_on: the cohort, in words.
        figures: target -> figure, of what there is; accuracy in percent.
        probes: target -> a probe of ours, which knows n and majority; also one that measured nothing.
        notes: target -> what its probes note, nothing twice.
        remark: what a reader must know of its weights, or nothing.
    """

    source: str
    row: str
    pretrained_on: str
    figures: Mapping[str, Figure]
    probes: Mapping[str, Mapping[str, Any]]
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remark: str = ""


def write_paper(
    published: Published,
    results: Probes,
    pretrained: Mapping[str, Origin],
    csv: Path,
    markdown: Path,
    latex: Path,
) -> None:
    """Nothing; writes the three tables.

    Args:
        published: the table of the paper.
        results: row label -> seed -> target name -> what `read_probe` gives.
        pretrained: row label -> on what it was pretrained.
        csv: one line per row and column of the paper, with n, classes, majority and notes of ours.
        markdown: the paper's layout, with how to read it.
        latex: the same as a table of booktabs.
    """
    entries = [*_published(published), *_ours(published, results, pretrained)]
    for path in (csv, markdown, latex):
        path.parent.mkdir(parents=True, exist_ok=True)
    long_paper(published, entries).map(in_csv).to_csv(csv, index=False)
    markdown.write_text(_markdown(published, entries), encoding="utf-8")
    latex.write_text(_latex(published, entries), encoding="utf-8")


def long_paper(published: Published, entries: Sequence[Entry]) -> pd.DataFrame:
    """One line per row and column of the paper that has a figure or was asked for, as in PAPER_COLUMNS."""
    lines = []
    for entry in entries:
        for column in published.columns:
            target = column.target
            if target not in entry.figures and target not in entry.probes:
                continue
            figure, probe = entry.figures.get(target), entry.probes.get(target, {})
            counts, majority = probe.get("classes"), probe.get("majority")
            lines.append(
                {
                    **{"source": entry.source, "row": entry.row, "pretrained_on": entry.pretrained_on},
                    **{"target": target, "head": column.head, "metric": column.metric},
                    **{"mean": figure and figure.mean, "sd": figure and figure.sd, "n": probe.get("n")},
                    "classes": counts and " ".join(f"{name}:{n}" for name, n in counts.items()),
                    "majority_percent": None if majority is None else 100 * majority,
                    **{"note": "; ".join(entry.notes.get(target, ())), "remark": entry.remark},
                }
            )
    return pd.DataFrame(lines, columns=list(PAPER_COLUMNS))


def _published(table: Published) -> list[Entry]:
    return [Entry(PUBLISHED, row.method, row.pretrained_on, row.figures, {}) for row in table.rows]


def _ours(table: Published, results: Probes, pretrained: Mapping[str, Origin]) -> list[Entry]:
    entries = []
    for row, seeds in results.items():
        figures, known, notes = dict[str, Figure](), {}, {}
        for column in table.columns:
            target, factor = column.target, SHOWN[column.metric][1]
            probes = [found[target] for found in seeds.values() if target in found]
            if not probes:
                continue
            measured = [probe for probe in probes if probe["metrics"] is not None]
            mean, sd = mean_and_sd([probe["metrics"] for probe in measured], column.metric)
            if mean is not None:
                figures[target] = Figure(factor * mean, None if sd is None else factor * sd)
            known[target] = [*measured, *probes][0]
            notes[target] = list(dict.fromkeys(note for probe in probes if (note := noted(probe))))
        origin = pretrained[row]
        entries.append(Entry(OURS, row, origin.on, figures, known, notes, origin.remark))
    return entries


def _heads(table: Published, entries: Sequence[Entry]) -> list[str]:
    """The heads of the columns, in the paper's layout."""
    if table.by_pretraining:
        return ["method", *_cohorts(entries)]
    columns = [f"{column.head}, {SHOWN[column.metric][0]}" for column in table.columns]
    return ["method", "pretrained on", *columns]


def _cohorts(entries: Sequence[Entry]) -> list[str]:
    """What rows were pretrained on, cohorts first, those of the paper before others."""
    found = dict.fromkeys(entry.pretrained_on for entry in entries)
    several = [
        on for on in found if sum(e.source == PUBLISHED and e.pretrained_on == on for e in entries) > 1
    ]
    return [*several, *(on for on in found if on not in several)]


def _body(
    table: Published, entries: Sequence[Entry], source: str, text: Callable[[str], str], show: Show
) -> list[Line]:
    """The lines of one source."""
    own = [entry for entry in entries if entry.source == source]
    if not table.by_pretraining:
        return [
            (
                *(text(entry.row), text(entry.pretrained_on)),
                *(show(entry, column) for column in table.columns),
            )
            for entry in own
        ]
    (column,) = table.columns
    names = {(entry.row, entry.pretrained_on) for entry in own}
    by_row: dict[str, dict[str, str]] = {}
    for entry in own:
        on = entry.pretrained_on
        row = entry.row.removesuffix(f" (pretrained on {on})")  # which the column says
        row = entry.row if (row, on) in names else row  # another row's line
        by_row.setdefault(row, {})[on] = show(entry, column)
    cohorts = _cohorts(entries)
    return [(text(row), *(cells.get(on, NOT_REPORTED) for on in cohorts)) for row, cells in by_row.items()]


def _counts(table: Published, entries: Sequence[Entry]) -> list[str]:
    """Of each column of ours: scans, classes, and the share of the largest, as sentences."""
    said = []
    for column in table.columns:
        target = column.target
        probes = [entry.probes[target] for entry in entries if target in entry.probes.keys() & entry.figures]
        if probes:
            parts = [f"{column.head}: n = {_range(p['n'] for p in probes)}"]
            if classes := [len(p["classes"]) for p in probes if p["classes"]]:
                parts.append(f"{_range(classes)} classes")
            if majorities := [round(100 * p["majority"], 1) for p in probes if p["majority"] is not None]:
                parts.append(f"largest class {_range(majorities)} %")
            said.append(", ".join(parts))
    return said


def _range(values: Iterable[float]) -> str:
    """One number, or lowest to highest."""
    ordered = sorted(values)
    return " to ".join(dict.fromkeys(map(str, (ordered[0], ordered[-1]))))


def _told(table: Published, entries: Sequence[Entry]) -> list[str]:
    """What probes of ours note, and what is to be known of weights, as sentences; each with its rows."""
    said = []
    for column in table.columns:
        asked = [entry for entry in entries if column.target in entry.probes]
        where: dict[str, list[str]] = {}
        for entry in asked:
            for note in entry.notes[column.target]:
                where.setdefault(note, []).append(entry.row)
        for note, rows in where.items():
            which = "all rows" if len(rows) == len(asked) > 1 else "; ".join(rows)
            said.append(f"{column.head}, {which}: {note}.")
    of: dict[str, list[str]] = {}
    for entry in entries:
        if entry.remark:
            of.setdefault(entry.remark, []).append(entry.row)
    return said + [f"{'; '.join(rows)}: {remark}." for remark, rows in of.items()]


def _figure(entry: Entry, column: Column, plus_minus: str) -> str:
    figure = entry.figures.get(column.target)
    if figure is None:
        return NOT_MEASURED if column.target in entry.probes else NOT_REPORTED
    digits = SHOWN[column.metric][2]
    spread = "" if figure.sd is None else f" {plus_minus} {figure.sd:.{digits}f}"
    return f"{figure.mean:.{digits}f}{spread}"


def _markdown(table: Published, entries: Sequence[Entry]) -> str:
    heads = ["figures", *map(in_markdown, _heads(table, entries))]
    lines = [
        [source, *line]
        for source in (PUBLISHED, OURS)
        for line in _body(table, entries, source, in_markdown, lambda e, c: _figure(e, c, "±"))
    ]
    (metric, *_) = {SHOWN[column.metric][0] for column in table.columns}
    what = (
        f" {table.columns[0].head}, {metric}; columns: what a row was pretrained on." * table.by_pretraining
    )
    said = [*_counts(table, entries), *_told(table, entries)]
    return "\n".join(
        [
            f"# In the layout of the paper's {table.name}",
            "",
            f"Published: {SOURCE}, {table.name}: {table.cohort}.{what}",
            "",
            *in_lines([heads, ["---"] * len(heads), *lines]),
            "",
            HOW,
            *table.remarks,
            *(["", "This study:", "", *(f"- {in_markdown(one)}" for one in said)] if said else []),
            "",
        ]
    )


def _latex(table: Published, entries: Sequence[Entry]) -> str:
    heads = _heads(table, entries)
    texts = 1 if table.by_pretraining else 2
    width, lines = len(heads), []
    for source, title in ((PUBLISHED, f"Published: {SOURCE}, {table.name}"), (OURS, "This study")):
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\emph{{{in_latex(title)}}}}} \\"]
        body = _body(table, entries, source, in_latex, lambda e, c: _figure(e, c, r"$\pm$"))
        lines += [" & ".join(line) + r" \\" for line in body]
    counts = "; ".join(_counts(table, entries))
    told = _told(table, entries)
    below = [HOW, *table.remarks, *(["This study:", *told] if told else [])]
    caption = f"Layout of {table.name}; published: {table.cohort}." + (
        f" This study: {counts}." if counts else ""
    )
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{in_latex(caption)}}}",
            rf"\begin{{tabular}}{{{'l' * texts}{'r' * (width - texts)}}}",
            r"\toprule",
            " & ".join(map(in_latex, heads)) + r" \\",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\par\smallskip\footnotesize {in_latex(' '.join(below))}",
            r"\end{table}",
            "",
        ]
    )
