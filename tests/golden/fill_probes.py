"""What probes said when there was one split and no repeats.

    python tests/golden/fill_probes.py

writes them anew, which is not meant to be done: repeats must leave them as they are.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ctssl.config.evaluation import Target
from ctssl.evaluate.probes import probe
from ctssl.evaluate.splits import assign_folds

FILE = Path(__file__).with_name("probes.json")
TARGETS = {
    "number": Target(name="number", column="number", task="regress"),
    "class": Target(name="class", column="class", task="classify"),
}


def cohort() -> tuple[pd.DataFrame, dict[str, pd.Series], dict[str, int]]:
    """Features of 36 scans of 24 subjects, labels of each target, folds."""
    rng = np.random.default_rng(9)
    subjects = [f"p{i:02}" for i in range(24)] + [f"p{i:02}" for i in range(12)]
    values = rng.normal(size=(36, 5))
    table = pd.DataFrame(values, columns=[f"f{j:03}" for j in range(5)])
    table.insert(0, "scan", [f"s{i:02}" for i in range(36)])
    table.insert(1, "subject", subjects)
    score = 2 * values[:, 0] - values[:, 1] + rng.normal(size=36)
    labels = {
        "number": pd.Series(score, table.scan),
        "class": pd.Series([str(int(s > -1) + int(s > 1)) for s in score], table.scan, dtype=object),
    }
    return table, labels, assign_folds(subjects, None, 4, 0, {})


def found() -> dict[str, dict]:
    """Metrics, folds and predictions of each target."""
    table, labels, folds = cohort()
    results = {}
    for name, target in TARGETS.items():
        result = probe(table, labels[name], folds, target, seed=3)
        predictions = result.predictions.sort_values("scan").drop(columns="repeat", errors="ignore")
        results[name] = {
            "metrics": result.metrics,
            "folds": result.folds,
            "note": result.note,
            "predictions": predictions.to_dict("list"),
        }
    return results


if __name__ == "__main__":
    FILE.write_text(json.dumps(found(), indent=1) + "\n")
