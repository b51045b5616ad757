"""The losses of tiny trainings of the methods that learn from boxes of lungs, on synthetic ones.

    python tests/golden/fill_boxes.py

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

FILE = Path(__file__).with_name("boxes.json")
OPTIONS = {
    "moco-v2": {
        **{"volume_voxels": 24, "field_mm": 60, "feature_size": 16, "projection_size": 8, "queue_size": 7},
        **{"volume_batch": 4, "bn_groups": 1, "momentum": 0.9, "epochs": 5},
        "learning_rate": 0.001,  # so small that rounding does not grow
    },
    "models-genesis": {"crop_voxels": [16, 16, 16], "crop_batch": 4, "epochs": 6, "learning_rate": 0.1},
}


def losses(folder: Path, method: str) -> list[float]:
    """Of each step."""
    torch.set_num_threads(1)
    run = Run(name="golden", method=method, options=OPTIONS[method])
    people = lungs.with_boxes(synthetic.cohort(folder / "cohort"), folder / "boxes")
    pretrain(replace(synthetic.job(people, folder / "out"), run=run, boxes=people.boxes))
    with (folder / "out/history.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    found = {}
    for method in OPTIONS:
        with tempfile.TemporaryDirectory() as made:
            found[method] = losses(Path(made), method)
    FILE.write_text(json.dumps(found) + "\n")
