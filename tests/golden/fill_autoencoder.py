"""The losses of a tiny training of the autoencoder on synthetic stores.

    python tests/golden/fill_autoencoder.py

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

FILE = Path(__file__).with_name("autoencoder.json")
OPTIONS = {"epochs": 2, "patch_batch": 4, "feature_size": 8, "bn_groups": 1}
OPTIONS |= {"optimiser": "sgd", "learning_rate": 0.01}  # Adam makes steps of rounding


def losses(folder: Path) -> list[float]:
    """Of each step."""
    torch.set_num_threads(1)
    run = Run(name="golden", method="autoencoder", options=OPTIONS)
    people = synthetic.cohort(folder / "cohort")
    pretrain(replace(synthetic.job(people, folder / "out"), run=run))
    with (folder / "out/history.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        FILE.write_text(json.dumps(losses(Path(made))) + "\n")
