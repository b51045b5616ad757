"""Pretraining is worth something: features beat those of the weights it starts from."""

import csv

import numpy as np
import pytest
import torch
from torch.nn import functional
from train import synthetic

from ctssl.cohorts.phantom.oracle import OraclePlan, write_oracle
from ctssl.config.runs import Pretraining, Run
from ctssl.evaluate.features import embed_scan
from ctssl.prepare.atlas import Atlas, read_atlas
from ctssl.store.layout import StoreArrays
from ctssl.store.reader import open_store, open_stores
from ctssl.store.writer import write_store
from ctssl.train import weights
from ctssl.train.job import PretrainJob
from ctssl.train.loop import pretrain

SCANS, LANDMARKS, TARGET = 48, 8, "ground_glass_percent"
OPTIONS = {"feature_size": 32, "experts": 4, "queue_size": SCANS, "patch_batch": SCANS, "bn_groups": 2}
OPTIONS |= {"momentum": 0.9}  # of 80 steps in all
OPTIONS |= {"augment": {"steps": ["warp", "noise", "gamma"], "translation_voxels": 1, "elastic_magnitude": 0}}
GUESSING = 2 * np.log(SCANS)
"""Both losses of a query that tells its key from none of the other subjects' keys, a collapsed one too."""


def small(made, folder):
    """The atlas, stores and target of the first scans: some landmarks, patches of 16 voxels of 4 mm."""
    full = read_atlas(made / "atlas")
    with (made / "scans.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["scan"])[:SCANS]
    some = np.linspace(0, len(full.landmarks_mm) - 1, LANDMARKS).astype(int)
    none = np.empty((0, 2), np.int64)
    atlas = Atlas("small", "LPS", 4.0, 108.0, full.landmarks_mm[some], none, patch_voxels=16)
    for row in rows:
        store = open_store(made / "stores" / row["scan"], atlas=full.id)
        fine = torch.from_numpy(store.patches(some)).float()[:, None]
        coarse = functional.avg_pool3d(fine, 2)[:, 0].round().to(torch.int16).numpy()
        shown = (values[some] for values in (store.valid, store.landmarks_mm, store.lung_fraction))
        (folder / row["scan"]).mkdir(parents=True)
        card = {"scan": row["scan"], "atlas": "small", "spacing_mm": 4.0}
        write_store(folder / row["scan"], StoreArrays(coarse, *shown, none), card)
    stores = open_stores([folder / row["scan"] for row in rows], atlas="small")
    return atlas, stores, [row["subject"] for row in rows], np.array([float(row[TARGET]) for row in rows])


def left_out_r2(features, target):
    """R² of ridge regression of standardised features, each scan predicted by the others; best penalty."""
    z, n = (features - features.mean(0)) / (features.std(0) + 1e-6), len(target)
    z = z - z.mean(0)
    null, found = (target - target.mean()) * n / (n - 1), []
    for penalty in (1, 10, 100, 1000):
        hat = z @ np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T) + 1 / n
        residuals = (target - hat @ target) / (1 - np.diag(hat))
        found.append(1 - (residuals**2).sum() / (null**2).sum())
    return max(found)


def measured(made, out):
    """R² of the weights that training starts from, with the cohort's statistics, and of the end; its loss."""
    torch.set_num_threads(1)
    atlas, stores, subjects, target = small(made, out / "stores")
    machine, found = Pretraining(**{**synthetic.MACHINE, "precision": "bf16"}), {}
    for name, changes in {
        "start": {"epochs": 2, "learning_rate": 1e-12},  # moves nothing
        "trained": {"epochs": 10, "learning_rate": 0.03},
    }.items():
        run = Run(name=name, method="drasclr", options=OPTIONS | changes)
        pretrain(PretrainJob(run, machine, atlas, stores, subjects, 0, out / name))
        embedder = weights.load(out / name / weights.TENSORS, atlas).embedder
        features = [embed_scan(embedder, store, torch.device("cpu")) for store in stores]
        found[name] = left_out_r2(np.stack(features).astype(float), target)
    with (out / "trained/history.csv").open(newline="") as file:
        found["loss"] = np.mean([float(row["loss"]) for row in csv.DictReader(file)][-LANDMARKS:])
    return found


@pytest.mark.slow
def test_pretraining_beats_the_weights_it_starts_from(tmp_path):
    """On the share of lung in ground glass: 0.94 beside 0.79, by seed 1 0.94 beside 0.91 (seen).

    The loss is 7.2 in the end, where guessing is 7.7. The published shift of 12 voxels, for patches of 32,
    leaves two views of 16 voxels little in common: then the loss stays that of guessing, and
    `embedding_std` falls to 0.2.
    """
    write_oracle(tmp_path / "made", OraclePlan(SCANS + 2, 7))  # the last two are visits of one person
    found = measured(tmp_path / "made", tmp_path)
    assert found["trained"] > found["start"] + 0.08, found
    assert found["loss"] < GUESSING - 0.25, found
