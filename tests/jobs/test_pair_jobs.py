"""The job that compares rows: which files belong together, and what stands for a subject."""

import numpy as np
import pandas as pd
import pytest

from ctssl import settings
from ctssl.evaluate import metrics, pairs
from ctssl.jobs import scores

TARGET = {"name": "fev1", "column": "fev1", "task": "regress"}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 50)
    monkeypatch.setattr(pairs, "RESAMPLES", 99)


def predictions(path, sd, seed, visit="0"):
    """A file of what a row says of twenty subjects; returns its R2."""
    rng, people = np.random.default_rng(seed), [f"p{i:02}" for i in range(20)]
    truth = np.arange(20.0)
    guess = truth + sd * rng.normal(size=20)
    table = pd.DataFrame({"scan": [f"{who}-{visit}" for who in people], "subject": people, "repeat": 0})
    table = table.assign(fold=0, truth=truth, prediction=guess, null=truth.mean())
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path.with_suffix(".csv"), index=False)
    return 1 - ((guess - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()


def compared(folder, **more):
    rows = [("Ours", "ours", [0, 1, 2], "all", None), ("Theirs", "theirs", [0], "all", None)]
    text = settings.text_of("pairs", rows=rows, targets=[TARGET], reference="Theirs", **more)
    files = sorted(path.with_suffix(".json") for path in folder.glob("probes/*/*.csv"))
    scores.pairs(text, files, folder / "pairs.csv", folder / "pairs.md")
    [line] = pd.read_csv(folder / "pairs.csv").itertuples()
    return line


def test_all_seeds_of_a_row_are_compared(tmp_path):
    places = [tmp_path / f"probes/ours_seed{seed}_all/fev1.json" for seed in range(3)]
    r2 = [predictions(path, sd, seed) for seed, (path, sd) in enumerate(zip(places, (1, 3, 5), strict=True))]
    reference = predictions(tmp_path / "probes/theirs_seed0_all/fev1.json", 9, 3)
    line = compared(tmp_path)
    assert line.value == pytest.approx(np.mean(r2))
    assert line.difference == pytest.approx(np.mean(r2) - reference)


def test_where_one_scan_stands_for_a_subject_rows_may_take_another(tmp_path):
    """As when the first scan of a subject has no features in one row."""
    for seed in range(3):
        predictions(tmp_path / f"probes/ours_seed{seed}_all/fev1.json", 1, seed)
    predictions(tmp_path / "probes/theirs_seed0_all/fev1.json", 5, 3, visit="1")
    alone = compared(tmp_path)
    assert (alone.scans, alone.subjects) == (0, 0)
    for how in ("first", "mean"):
        line = compared(tmp_path, scans_of_subject=how)
        assert (line.scans, line.subjects) == (20, 20)
        assert line.low > 0
