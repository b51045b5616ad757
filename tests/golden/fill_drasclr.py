"""The losses of a tiny training of drasclr on synthetic stores.

    python tests/golden/fill_drasclr.py

writes them anew.
"""

import csv
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from train import synthetic

from ctssl.config.runs import Run
from ctssl.train.loop import pretrain

FILE = Path(__file__).with_name("drasclr_curve.json")
OPTIONS = {"epochs": 2, "patch_batch": 8, "feature_size": 8, "experts": 3, "queue_size": 13, "bn_groups": 2}
OPTIONS |= {"random_negatives": True}  # so that the first losses say something
OPTIONS |= {"learning_rate": 0.001}  # so small that rounding does not grow
TERMS = ("loss", "local", "neighbouring")


def losses(folder: Path) -> dict[str, list[float]]:
    """Of each step, term by term."""
    torch.set_num_threads(1)
    run = Run(name="golden", method="drasclr", options=OPTIONS)
    people = synthetic.cohort(folder / "cohort", scans=8)
    pretrain(replace(synthetic.job(people, folder / "out"), run=run))
    with (folder / "out/history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {term: [float(row[term]) for row in rows] for term in TERMS}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        FILE.write_text(json.dumps(losses(Path(made)), indent=1) + "\n")
