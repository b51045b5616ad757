"""Small stores on disk, each subject with a texture of its own."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.ndimage import gaussian_filter

from ctssl.config.methods import ContextAware
from ctssl.config.runs import Pretraining, Run
from ctssl.prepare.atlas import Atlas
from ctssl.store.layout import AIR_HU, StoreArrays
from ctssl.store.reader import open_store
from ctssl.store.writer import write_store
from ctssl.train.job import PretrainJob

SMALL = {
    "feature_size": 16,
    "queue_size": 13,
    "patch_batch": 4,
    "graph_batch": 3,
    "graph_steps": 2,
    "epochs": 2,
}
"""Options that a laptop trains in a second; 13 is no multiple of any batch."""


MACHINE = {
    "device": "cpu",
    "threads": 1,
    "precision": "fp32",
    "checkpoint_steps": 1000,
    "checkpoints": 2,
    "devices": 1,
    "passes": 1,
    "compile_networks": False,
}


def atlas(landmarks=6):
    """Landmarks 20 mm apart on a block of two in x, two in y, the rest in z."""
    i = np.arange(landmarks)
    places = np.stack([i % 2, i // 2 % 2, i // 4], 1) * 20.0
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    return Atlas("synthetic", "LPS", 1.0, 20.0, places, np.argwhere(np.triu(apart < 21, 1)))


def write_scan(folder: Path, number: int, chest: Atlas, valid=None):
    """The store of one scan, written to `folder` and opened."""
    rng = np.random.default_rng([7, number])
    count = len(chest.landmarks_mm)
    valid = np.ones(count, bool) if valid is None else np.asarray(valid, bool)
    noise = rng.normal(size=(count, 32, 32, 32))
    grain = gaussian_filter(noise, (0, *[0.6 + 0.5 * number] * 3))
    hu = -800 + 60 * number + 150 * grain / grain.std()
    patches = np.where(valid[:, None, None, None], hu, AIR_HU).clip(-1024, 3071).astype(np.int16)
    keep = valid[chest.neighbours].all(1)
    name = f"scan{number}"
    (folder / name).mkdir(parents=True)
    arrays = StoreArrays(patches, valid, chest.landmarks_mm, valid.astype(np.float32), chest.neighbours[keep])
    write_store(folder / name, arrays, {"scan": name, "atlas": chest.id, "spacing_mm": chest.spacing_mm})
    return open_store(folder / name, atlas=chest.id)


def cohort(folder: Path, scans=5, landmarks=6, hidden=()):
    """An atlas, stores, subjects: scans 0 and 1 are of one person; some landmarks are not valid, nor are
    the `hidden` ones, pairs (scan, landmark).
    """
    chest = atlas(landmarks)
    masks = [np.ones(landmarks, bool) for _ in range(scans)]
    for scan, landmark in ((1, 2), (2, 0), (2, 5), *hidden):
        masks[scan][landmark] = False
    stores = [write_scan(folder, i, chest, mask) for i, mask in enumerate(masks)]
    subjects = ["anna", "anna", *(f"person{i}" for i in range(2, scans))]
    return SimpleNamespace(atlas=chest, stores=stores, subjects=subjects)


def options(**changes) -> ContextAware:
    """Small options of context-aware."""
    return ContextAware(**{**SMALL, **changes})


def job(people, out: Path, *, seed=0, **changes) -> PretrainJob:
    """A small pretraining of these people; changes of the method's options or of the machine's."""
    machine = dict(MACHINE)
    machine |= {name: changes.pop(name) for name in Pretraining.model_fields if name in changes}
    run = Run(name="small", method="context-aware", options=options(**changes))
    machine = Pretraining(**machine)
    return PretrainJob(run, machine, people.atlas, people.stores, people.subjects, seed, out)
