"""The losses of tiny trainings of supervised networks on synthetic boxes of lungs.

    python tests/golden/fill_supervised.py

writes them anew.
"""

import csv
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from train import lungs, synthetic

from ctssl.config.runs import Pretraining, Run
from ctssl.store.boxes import open_box
from ctssl.store.reader import open_store
from ctssl.train.fold import FoldJob
from ctssl.train.labels import Labels
from ctssl.train.loop import pretrain

FILE = Path(__file__).with_name("supervised.json")
OPTIONS = {
    "cnn-3d": {
        **{"volume_voxels": 24, "field_mm": 60, "feature_size": 16, "volume_batch": 4, "epochs": 4},
        "learning_rate": 0.003,
    },
    "slice-cnn": {
        **{"plane_voxels": 32, "field_mm": 60, "feature_size": 16, "scan_batch": 4, "epochs": 4},
        **{"widths": [4, 8, 8], "learning_rate": 0.003},
    },
    "subject2vec": {"feature_size": 16, "scan_batch": 3, "epochs": 3},
}
LABELS = Labels("x", ("a", "b"), [0, 1, 0, 1, 1, 0, 1, 0], [False] * 6 + [True] * 2, weighted=True)


def eight(folder: Path) -> SimpleNamespace:
    """Eight people with boxes in this folder, made where there are none."""
    if not (folder / "boxes").exists():
        lungs.with_boxes(synthetic.cohort(folder / "stores", scans=8), folder / "boxes")
    atlas = synthetic.atlas()
    stores = [open_store(path, atlas=atlas.id) for path in sorted((folder / "stores").glob("scan*"))]
    boxes = {s.scan: open_box(folder / "boxes" / s.scan, scan=s.scan, atlas=atlas.id) for s in stores}
    return SimpleNamespace(atlas=atlas, stores=stores, subjects=[s.scan for s in stores], boxes=boxes)


def losses(folder: Path, method: str) -> list[float]:
    """Of each step, then the validation losses of the epochs."""
    torch.set_num_threads(1)
    run, people = Run(name="golden", method=method, options=OPTIONS[method]), eight(folder / "eight")
    made = Pretraining(**synthetic.MACHINE), people.atlas, people.stores, people.subjects
    pretrain(FoldJob(run, *made, 0, folder / "out", people.boxes, labels=LABELS))
    with (folder / "out/history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    held = [float(row["validation_loss"]) for row in rows if row["validation_loss"]]
    return [float(row["loss"]) for row in rows] + held


if __name__ == "__main__":
    found = {}
    for method in OPTIONS:
        with tempfile.TemporaryDirectory() as made:
            found[method] = losses(Path(made), method)
    FILE.write_text(json.dumps(found) + "\n")
