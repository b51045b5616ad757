"""The losses of tiny trainings of pcrl, on synthetic boxes of lungs.

    python tests/golden/fill_pcrl.py

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
from train import lungs, synthetic

from ctssl.config.runs import Run
from ctssl.train.loop import pretrain

FILE = Path(__file__).with_name("pcrl.json")
CASES = {
    "paper": {"form": "paper", "attention": "outer"},
    "released": {"form": "released", "attention": "multiplicative", "pair_sizes": "independent"},
}
OPTIONS = {
    **{"crop_voxels": [16, 16, 16], "crop_sizes": [[8, 8, 8], [12, 16, 16], [20, 20, 20]], "width": 1},
    **{"crop_batch": 4, "bn_groups": 1, "projection_size": 8, "momentum": 0.9, "queue_size": 20},
    **{"epochs": 5, "learning_rate": 0.01},
}


def losses(folder: Path, case: str) -> list[float]:
    """Of each step."""
    torch.set_num_threads(1)
    run = Run(name="golden", method="pcrl", options=OPTIONS | CASES[case])
    people = lungs.with_boxes(synthetic.cohort(folder / "cohort"), folder / "boxes")
    pretrain(replace(synthetic.job(people, folder / "out"), run=run, boxes=people.boxes))
    with (folder / "out/history.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    found = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as made:
            found[case] = losses(Path(made), case)
    FILE.write_text(json.dumps(found) + "\n")
