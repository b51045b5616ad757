"""The losses of tiny trainings of voco, on synthetic boxes of lungs.

    python tests/golden/fill_voco.py

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

FILE = Path(__file__).with_name("voco.json")
FORMS = ("paper", "teacher")
OPTIONS = {
    **{"crop_voxels": [16, 16, 16], "grid": [2, 3], "random_crops": 2, "crop_batch": 4, "width": 4},
    **{"projection_size": 16, "epochs": 6, "learning_rate": 0.001},
}


def losses(folder: Path, form: str) -> list[float]:
    """Of each step."""
    torch.set_num_threads(1)
    run = Run(name="golden", method="voco", options=OPTIONS | {"form": form})
    people = lungs.with_boxes(synthetic.cohort(folder / "cohort"), folder / "boxes")
    pretrain(replace(synthetic.job(people, folder / "out"), run=run, boxes=people.boxes))
    with (folder / "out/history.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    found = {}
    for form in FORMS:
        with tempfile.TemporaryDirectory() as made:
            found[form] = losses(Path(made), form)
    FILE.write_text(json.dumps(found) + "\n")
