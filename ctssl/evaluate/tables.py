"""The tables of all results: one csv that is complete, one Markdown page to read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctssl.config.evaluation import Target
from ctssl.escaping import in_csv, in_markdown
from ctssl.evaluate.joining import HOW
from ctssl.evaluate.notes import each_once
from ctssl.evaluate.transfer import Origin

Probes = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]
"""Row label -> seed (and part) -> target name -> what `read_probe` gives."""

COLUMNS = (
    *("row", "target", "task", "metric", "value", "low", "high", "fold_mean", "fold_sd"),
    *("n", "subjects", "classes", "majority", "seed", "note", "pretrained_on"),
)
SMALL_N = 50
SMALL_ADVICE = (
    "Do not read differences within the intervals as differences between methods. Read the pooled values: R² "
    "within a fold of a few scans means little, and a scan left out makes its small class rarer in "
    "training, which pushes accuracy below the majority."
)
SHOWN = {"regress": ("r2", 1.0, 2), "classify": ("accuracy", 100.0, 1), "survive": ("concordance", 1.0, 2)}
"""Task -> the metric that the page shows, its factor, its decimals."""


def write_tables(
    results: Probes,
    targets: Sequence[Target],
    csv: Path,
    markdown: Path,
    pretrained: Mapping[str, Origin] = {},
) -> None:
    """Nothing; writes both tables, rows and targets in the order given.

    Args:
        results: row label -> seed (and part) -> target name -> what `read_probe` gives.
        targets: the targets in the order of the columns.
        csv: one line per row, target, seed and metric; a probe that measured nothing has a line, too.
        markdown: one line per row, one column per target, and how it was measured.
        pretrained: row label -> on what it was pretrained.
    """
    for path in (csv, markdown):
        path.parent.mkdir(parents=True, exist_ok=True)
    long_table(results, targets, pretrained).map(in_csv).to_csv(csv, index=False)
    markdown.write_text(page(results, targets, pretrained))


def long_table(
    results: Probes, targets: Sequence[Target], pretrained: Mapping[str, Origin] = {}
) -> pd.DataFrame:
    """One line per row, target, seed and metric, with the columns of COLUMNS."""
    lines = []
    for row, seeds in results.items():
        for target in targets:
            for seed, probes in seeds.items():
                if target.name in probes:
                    lines += _lines(row, seed, probes[target.name])
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    return table.assign(pretrained_on=[pretrained[row].on if row in pretrained else "" for row in table.row])


def page(results: Probes, targets: Sequence[Target], pretrained: Mapping[str, Origin] = {}) -> str:
    """The Markdown page."""
    lines = ["# Results", "", *grid(results, targets), ""]
    lines += [*_explain(results, targets), *_trained_on(results, pretrained), *cautions(results, targets)]
    return "\n".join(lines) + "\n"


def grid(results: Probes, targets: Sequence[Target], first: str = "method") -> list[str]:
    """The lines of a Markdown table: a line per row, a column per target; `first` heads the rows."""
    body = [
        [in_markdown(row), *(_cell(_probes(seeds, target), target) for target in targets)]
        for row, seeds in results.items()
    ]
    heads = [first, *(_head(results, target) for target in targets)]
    return in_lines([heads, ["---"] * len(heads), *body])


def in_lines(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table whose cells are Markdown."""
    return ["| " + " | ".join(line) + " |" for line in table]


def _lines(row: str, seed: str, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    classes = result["classes"]
    common = {
        **{"row": row, "seed": seed},
        **{name: result[name] for name in ("target", "task", "n", "subjects", "majority", "note")},
        "classes": None
        if classes is None
        else " ".join(f"{name}:{count}" for name, count in classes.items()),
    }
    return [{**common, "metric": m, **values} for m, values in (result["metrics"] or {}).items()] or [common]


def _probes(seeds: Mapping[str, Mapping[str, Any]], target: Target) -> list[Mapping[str, Any]]:
    return [probes[target.name] for probes in seeds.values() if target.name in probes]


def _head(results: Probes, target: Target) -> str:
    """The column's head: target, what is shown, n, and for classes their number and the majority."""
    probes = [probe for seeds in results.values() for probe in _probes(seeds, target)]
    n = _range([p["n"] for p in probes], "{:d}")
    if target.task == "regress":
        return f"{target.name}{', logarithm' if target.log else ''}: R² (n = {n})"
    if target.task == "survive":
        events = _range([p["classes"]["event"] for p in probes], "{:d}")
        return f"{target.name}: concordance (n = {n}, {events} events)"
    classes = _range([len(p["classes"]) for p in probes], "{:d}")
    majority = _range([100 * p["majority"] for p in probes if p["majority"] is not None], "{:.1f}")
    return f"{target.name}: accuracy % (n = {n}, {classes} classes, majority {majority} %)"


def mean_and_sd(measured: Sequence[Mapping[str, Any]], metric: str) -> tuple[float | None, float | None]:
    """Mean and standard deviation over folds, or over seeds where there are several; None where unknown.

    `measured` are the `metrics` of the seeds of a row.
    """
    means = _known(measured, metric, "fold_mean")
    spread = _known(measured, metric, "fold_sd") if len(measured) == 1 else []
    if len(means) > 1:
        spread = [float(np.std(means, ddof=1))]
    return (float(np.mean(means)) if means else None, spread[0] if spread else None)


def _known(measured: Sequence[Mapping[str, Any]], metric: str, key: str) -> list[float]:
    return [float(m[metric][key]) for m in measured if m[metric][key] is not None]


def _cell(probes: Sequence[Mapping[str, Any]], target: Target) -> str:
    """Mean ± sd over folds, or over seeds where there are several; the pooled value and its interval."""
    name, factor, digits = SHOWN[target.task]
    if not probes:
        return "not asked"
    measured = [p["metrics"] for p in probes if p["metrics"] is not None]
    if not measured:
        return "not measured"

    def show(value: float) -> str:
        return f"{round(factor * value, digits) + 0.0:.{digits}f}"  # no -0.00

    mean, sd = mean_and_sd(measured, name)
    main = "–" if mean is None else show(mean)
    main += "" if sd is None else f" ± {show(sd)}"
    more = []
    if pooled := _known(measured, name, "value"):
        ends = (_known(measured, name, "low"), _known(measured, name, "high"))
        interval = f" [{show(min(ends[0]))}, {show(max(ends[1]))}]" if all(ends) else ""
        more.append(f"pooled {show(float(np.mean(pooled)))}{interval}")
    if target.task == "classify" and (balanced := _known(measured, "balanced_accuracy", "value")):
        more.append(f"balanced {show(float(np.mean(balanced)))}")
    return "; ".join([main, *more])


def _explain(results: Probes, targets: Sequence[Target]) -> list[str]:
    """How it was measured, and which rows are what."""
    found = _found(results, targets)
    folds = _fold_counts([p["folds"] for p in found.values() if p["metrics"] is not None])
    return [
        f"Measured by {folds}-fold cross-validation grouped by subject. First the mean ± standard deviation "
        "over folds (for a run with several seeds: over seeds). Then the value pooled over all out-of-fold "
        "predictions (R² against the mean of the training folds), with its 95 % interval by bootstrap over "
        "subjects (several seeds: their mean, and the lowest and highest end). Balanced accuracy is pooled, "
        "too.",
        *_kinds(found),
    ]


def cautions(results: Probes, targets: Sequence[Target]) -> list[str]:
    """What to beware of, and the notes of the probes, as lines of Markdown."""
    found = _found(results, targets)
    smallest = min((p["n"] for p in found.values()), default=0)
    lines = ["", f"Small sample: n = {smallest} is below {SMALL_N}. {SMALL_ADVICE}"]
    lines = lines if smallest < SMALL_N else []
    if notes := each_once({key: noted(result) for key, result in found.items()}):
        lines += ["", "Notes:", "", *(f"- {in_markdown(note)}." for note in notes)]
    return lines


def noted(probe: Mapping[str, Any]) -> str:
    """The note of a probe, but for how networks are trained on labels."""
    return str(probe["note"]).removeprefix(HOW).removeprefix("; ")


def _found(results: Probes, targets: Sequence[Target]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Row, target, seed -> probe."""
    return {
        (row, target.name, seed): probes[target.name]
        for row, seeds in results.items()
        for target in targets
        for seed, probes in seeds.items()
        if target.name in probes
    }


def _kinds(found: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> list[str]:
    """Which rows are what."""
    trained = dict.fromkeys(row for (row, _, _), result in found.items() if result["note"].startswith(HOW))
    frozen = dict.fromkeys(row for row, _, _ in found if row not in trained)
    lines = []
    if frozen:
        which = "All other rows" if trained else "All rows"
        lines += [
            "",
            f"{which} are frozen features with a linear probe: scaler, penalty and linear model are fitted "
            "inside the training folds, and so are the words of a bag of features and the directions of "
            "divergences. Rows that were pretrained on this cohort saw the images, never the labels, of the "
            "test folds too (transductive), as in the original protocol, unless they were pretrained inside "
            "the folds; hand-made features are not "
            "pretrained.",
        ]
    if trained:
        lines = ["", f"{in_markdown(', '.join(trained))}: {HOW}.", *lines]
    return lines


def _fold_counts(records: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """How many folds, and how often all subjects were split anew: 5, or 3 times repeated 5."""
    repeats = [len({record.get("repeat", 0) for record in folds}) or 1 for folds in records]
    counts = _range([round(len(f) / n) for f, n in zip(records, repeats, strict=True)], "{:d}")
    return f"{_range(repeats, '{:d}')} times repeated {counts}" if max(repeats, default=1) > 1 else counts


def _trained_on(results: Probes, pretrained: Mapping[str, Origin]) -> list[str]:
    """On what each row was pretrained."""
    groups: dict[Origin, list[str]] = {}
    for row in results:
        if row in pretrained:
            groups.setdefault(pretrained[row], []).append(row)
    lines = [
        f"- {in_markdown('; '.join(rows))}: {in_markdown(of.on)}."
        + (f" {in_markdown(of.remark)}." if of.remark else "")
        for of, rows in groups.items()
    ]
    return ["", "Pretrained on:", "", *lines] if lines else []


def _range(values: Sequence[float], form: str) -> str:
    """One number when all are equal, else lowest to highest; a dash for none."""
    ends = [form.format(end) for end in (min(values), max(values))] if values else ["–"]
    return ends[0] if ends[0] == ends[-1] else " to ".join(ends)
