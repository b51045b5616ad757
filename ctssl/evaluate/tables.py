"""The tables of all results: one csv that is complete, one Markdown page to read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctssl.config.study import Target
from ctssl.escaping import in_csv, in_markdown
from ctssl.evaluate.folds import HOW

Probes = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]
"""Row label -> seed (and part) -> target name -> what `read_probe` gives."""

COLUMNS = (
    *("row", "target", "task", "metric", "value", "low", "high", "fold_mean", "fold_sd"),
    *("n", "subjects", "classes", "majority", "seed", "note"),
)
SMALL_N = 50
SMALL_ADVICE = (
    "Do not read differences within the intervals as differences between methods. Read the pooled values: R² "
    "within a fold of a few scans means little, and a scan left out makes its small class rarer in "
    "training, which pushes accuracy below the majority."
)
SHOWN = {"regress": ("r2", 1.0, 2), "classify": ("accuracy", 100.0, 1)}
"""Task -> the metric that the page shows, its factor, its decimals."""


def write_tables(results: Probes, targets: Sequence[Target], csv: Path, markdown: Path) -> None:
    """Nothing; writes both tables, rows and targets in the order given.

    Args:
        results: row label -> seed (and part) -> target name -> what `read_probe` gives.
        targets: the targets in the order of the columns.
        csv: one line per row, target, seed and metric; a probe that measured nothing has a line, too.
        markdown: one line per row, one column per target, and how it was measured.
    """
    for path in (csv, markdown):
        path.parent.mkdir(parents=True, exist_ok=True)
    long_table(results, targets).map(in_csv).to_csv(csv, index=False)
    markdown.write_text(page(results, targets))


def long_table(results: Probes, targets: Sequence[Target]) -> pd.DataFrame:
    """One line per row, target, seed and metric, with the columns of COLUMNS."""
    lines = []
    for row, seeds in results.items():
        for target in targets:
            for seed, probes in seeds.items():
                if target.name in probes:
                    lines += _lines(row, seed, probes[target.name])
    return pd.DataFrame(lines, columns=list(COLUMNS))


def page(results: Probes, targets: Sequence[Target]) -> str:
    """The Markdown page."""
    body = [
        [in_markdown(row), *(_cell(_probes(seeds, target), target) for target in targets)]
        for row, seeds in results.items()
    ]
    heads = ["method", *(_head(results, target) for target in targets)]
    table = [heads, ["---"] * len(heads), *body]
    lines = ["# Results", "", *("| " + " | ".join(line) + " |" for line in table), ""]
    return "\n".join([*lines, *_explain(results, targets)]) + "\n"


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
    classes = _range([len(p["classes"]) for p in probes], "{:d}")
    majority = _range([100 * p["majority"] for p in probes if p["majority"] is not None], "{:.1f}")
    return f"{target.name}: accuracy % (n = {n}, {classes} classes, majority {majority} %)"


def _cell(probes: Sequence[Mapping[str, Any]], target: Target) -> str:
    """Mean ± sd over folds, or over seeds where there are several; the pooled value and its interval."""
    name, factor, digits = SHOWN[target.task]
    if not probes:
        return "not asked"
    measured = [p["metrics"] for p in probes if p["metrics"] is not None]
    if not measured:
        return "not measured"

    def show(value: float) -> str:
        return f"{factor * value:.{digits}f}"

    def known(metric: str, key: str) -> list[float]:
        return [m[metric][key] for m in measured if m[metric][key] is not None]

    means, pooled = known(name, "fold_mean"), known(name, "value")
    spread = known(name, "fold_sd") if len(measured) == 1 else [np.std(means, ddof=1)] if means[1:] else []
    main = show(float(np.mean(means))) if means else "–"
    main += f" ± {show(float(spread[0]))}" if spread else ""
    more = []
    if pooled:
        ends = (known(name, "low"), known(name, "high"))
        interval = f" [{show(min(ends[0]))}, {show(max(ends[1]))}]" if all(ends) else ""
        more.append(f"pooled {show(float(np.mean(pooled)))}{interval}")
    if target.task == "classify" and (balanced := known("balanced_accuracy", "value")):
        more.append(f"balanced {show(float(np.mean(balanced)))}")
    return "; ".join([main, *more])


def _explain(results: Probes, targets: Sequence[Target]) -> list[str]:
    """How it was measured, what to beware of, and the notes of the probes."""
    found = {
        (row, target.name, seed): probes[target.name]
        for row, seeds in results.items()
        for target in targets
        for seed, probes in seeds.items()
        if target.name in probes
    }
    folds = _range([len(p["folds"]) for p in found.values() if p["metrics"] is not None], "{:d}")
    lines = [
        f"Measured by {folds}-fold cross-validation grouped by subject. First the mean ± standard deviation "
        "over folds (for a run with several seeds: over seeds). Then the value pooled over all out-of-fold "
        "predictions (R² against the mean of the training folds), with its 95 % interval by bootstrap over "
        "subjects (several seeds: their mean, and the lowest and highest end). Balanced accuracy is pooled, "
        "too.",
        *_kinds(found),
    ]
    smallest = min((p["n"] for p in found.values()), default=0)
    if smallest < SMALL_N:
        lines += ["", f"Small sample: n = {smallest} is below {SMALL_N}. {SMALL_ADVICE}"]
    notes: dict[str, list[str]] = {}
    for (row, name, seed), result in found.items():
        if note := result["note"].removeprefix(HOW).removeprefix("; "):
            notes.setdefault(note, []).append(f"{row}, {name}, {seed}")
    if notes:
        lines += ["", "Notes:", ""]
        lines += [f"- {in_markdown('; '.join(where))}: {in_markdown(note)}." for note, where in notes.items()]
    return lines


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
            "test folds too (transductive), as in the original protocol; hand-made features are not "
            "pretrained.",
        ]
    if trained:
        lines = ["", f"{in_markdown(', '.join(trained))}: {HOW}.", *lines]
    return lines


def _range(values: Sequence[float], form: str) -> str:
    """One number when all are equal, else lowest to highest; a dash for none."""
    ends = [form.format(end) for end in (min(values), max(values))] if values else ["–"]
    return ends[0] if ends[0] == ends[-1] else " to ".join(ends)
