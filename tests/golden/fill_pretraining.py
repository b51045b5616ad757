"""Numbers of a tiny training on a synthetic cohort: when they change, the meaning of stage pretrain has.

    python tests/golden/fill_pretraining.py

writes them anew, with the recipe that they belong to.
"""

import csv
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from ctssl.cohorts.phantom.oracle import OraclePlan, write_oracle
from ctssl.config.methods import ContextAware
from ctssl.config.runs import Pretraining, Run
from ctssl.prepare.atlas import read_atlas
from ctssl.recipes import RECIPES
from ctssl.store.reader import open_store
from ctssl.train.job import PretrainJob
from ctssl.train.loop import pretrain

FILE = Path(__file__).with_name("pretraining.json")
SCANS = 6
MACHINE = {
    "device": "cpu",
    "threads": 1,
    "precision": "fp32",
    "checkpoint_steps": 1000,
    "checkpoints": 1,
    "devices": 1,
    "passes": 1,
    "compile_networks": False,
}
OPTIONS = {
    "epochs": 1,
    "patch_batch": 8,
    "graph_batch": 4,
    "graph_steps": 2,
    "queue_size": 16,
    "feature_size": 16,
    "random_negatives": True,  # so that the first losses say something
    "learning_rate": 0.003,  # so small that rounding does not grow
}


def measured(folder: Path) -> dict[str, dict[str, float]]:
    """What is compared: of the stores that were trained on, of each phase's history, of the weights."""
    write_oracle(folder, OraclePlan(SCANS, 3, spacing_mm=4.0, pitch_mm=80.0))
    atlas = read_atlas(folder / "atlas")
    stores = [open_store(path, atlas=atlas.id) for path in sorted((folder / "stores").iterdir())]
    run = Run(name="golden", method="context-aware", options=ContextAware(**OPTIONS))
    torch.set_num_threads(1)
    subjects = [store.scan for store in stores]
    pretrain(PretrainJob(run, Pretraining(**MACHINE), atlas, stores, subjects, 0, folder / "out"))
    return {
        "stores": {
            "valid": float(sum(store.valid.sum() for store in stores)),
            "hu": float(np.mean([store.patches(np.flatnonzero(store.valid)).mean() for store in stores])),
        },
        "history": _history(folder / "out/history.csv"),
        "weights": _weights(folder / "out/model.safetensors"),
    }


def _history(path: Path) -> dict[str, float]:
    """Means over the steps of each phase."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for phase in dict.fromkeys(row["phase"] for row in rows):
        of_phase = [row for row in rows if row["phase"] == phase]
        for name in of_phase[0].keys() - {"phase", "step", "top1"}:
            found[f"{phase} {name}"] = float(np.mean([float(row[name]) for row in of_phase]))
        found[f"{phase} steps"] = float(len(of_phase))
    return dict(sorted(found.items()))


def _weights(path: Path) -> dict[str, float]:
    """Each tensor's root mean square."""
    tensors = load_file(path)
    return {n: float(t.double().square().mean().sqrt()) for n, t in sorted(tensors.items())}


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        values = {"recipe": RECIPES["pretrain"], **measured(Path(folder))}
    FILE.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
