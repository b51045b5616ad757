"""The tables of probes whose folds leave out one value of a column each, such as one site."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctssl.config.evaluation import Target
from ctssl.escaping import in_csv, in_markdown
from ctssl.evaluate.tables import COLUMNS, SHOWN, Probes, cautions, grid, in_lines, long_table

BY_COLUMNS = ("column", "left_out", *COLUMNS[:-1], "train", "test")
HOW = (
    "Each fold is the scans of one value, and everything is fitted on the scans of all others: does what was "
    "learnt hold where that value was never seen? Compare with probes.md, where every value is in training, "
    "too. Pretraining without labels saw the scans of all values, where the weights are of this cohort. R² "
    "is against the mean of each value's own scans, of one value and pooled: knowing where numbers are high, "
    "which R² in probes.md rewards, is worth nothing here. It is lower than there where what was learnt "
    "was the value, and also where scans of one value differ less than those of all; it lies far below 0 "
    "where predictions for a value are off by a constant. Values with few scans say little. Networks that "
    "were trained on labels, or pretrained inside the folds, are not in these tables: their folds are others."
)


def write_by(column: str, results: Probes, targets: Sequence[Target], csv: Path, markdown: Path) -> None:
    """Nothing; writes both tables.

    Args:
        column: whose values are left out.
        results: row label -> seed -> target name -> what `read_probe` gives; folds have a `value`.
        targets: in the order of the columns.
        csv: the columns of BY_COLUMNS: lines of all values together, where left_out is empty, and of each.
        markdown: the page.
    """
    for path in (csv, markdown):
        path.parent.mkdir(parents=True, exist_ok=True)
    whole = long_table(results, targets).assign(column=column)
    both = [table for table in (whole, _of_values(results, targets).assign(column=column)) if len(table)]
    pd.concat(both).reindex(columns=list(BY_COLUMNS)).map(in_csv).to_csv(csv, index=False)
    lines = [f"# One {in_markdown(column)} left out", "", *grid(results, targets), "", HOW]
    for target in targets:
        lines += ["", f"## {in_markdown(target.name)}, of each {in_markdown(column)}", ""]
        lines += _values_of(results, target)
    lines += cautions(results, targets)
    markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _of_values(results: Probes, targets: Sequence[Target]) -> pd.DataFrame:
    """One line per row, target, seed, value and metric."""
    lines = [
        {
            **{"row": row, "seed": seed, "target": target.name, "task": target.task},
            **{"left_out": record["value"], "train": record["train"], "test": record["test"]},
            **{"metric": metric, "value": record[metric]},
        }
        for row, seeds in results.items()
        for target in targets
        for seed, probes in seeds.items()
        for record in _folds(probes, target)
        for metric in probes[target.name]["metrics"]
    ]
    return pd.DataFrame(lines)


def _values_of(results: Probes, target: Target) -> list[str]:
    """A table of Markdown: a line per row, a column per value; several seeds: their mean."""
    metric, factor, digits = SHOWN[target.task]
    cells: dict[str, dict[str, list[float]]] = {}
    tested: dict[str, int] = {}
    for row, seeds in results.items():
        of_row = cells.setdefault(row, {})
        for probes in seeds.values():
            for record in _folds(probes, target):
                tested[record["value"]] = max(record["test"], tested.get(record["value"], 0))
                if record[metric] is not None:
                    of_row.setdefault(record["value"], []).append(factor * record[metric])
    if not tested:
        return ["Nothing was measured."]
    heads = [f"{in_markdown(value)} (n = {n})" for value, n in tested.items()]
    body = [
        [in_markdown(row), *(f"{np.mean(of[v]):.{digits}f}" if v in of else "–" for v in tested)]
        for row, of in cells.items()
    ]
    shown = {"r2": "R²", "accuracy": "accuracy %"}.get(metric, metric)
    return in_lines([[f"method: {shown}", *heads], ["---"] * (1 + len(heads)), *body])


def _folds(probes: Mapping[str, Any], target: Target) -> list[dict[str, Any]]:
    found = probes.get(target.name)
    return found["folds"] if found and found["metrics"] is not None else []
