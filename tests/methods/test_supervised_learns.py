"""Networks say of lungs that they were not trained on how many holes they have; their own start does not."""

from itertools import compress
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import torch
from scipy.ndimage import gaussian_filter
from train import lungs, synthetic

from ctssl.config.runs import Pretraining, Run
from ctssl.prepare.atlas import Atlas
from ctssl.prepare.grid import Grid
from ctssl.prepare.landmarks import extract_patches
from ctssl.store.boxes import box_of
from ctssl.store.handles import Patches
from ctssl.store.reader import Store
from ctssl.train import weights
from ctssl.train.fold import FoldJob
from ctssl.train.held import whole_scan
from ctssl.train.labels import Labels
from ctssl.train.loop import pretrain

SCANS, EDGE = 80, 16
CORNERS = np.array([(x, y, z) for x in (14.0, 37.0) for y in (14.0, 30.0) for z in (13.0, 27.0)])
ATLAS = Atlas("synthetic", "LPS", 1.0, 16.0, CORNERS, np.array([[0, 1]]), EDGE)
"""Landmarks in both lungs, x, y, z."""

SHORT = {"epochs": 30, "patience": 30, "learning_rate": 0.002}
OPTIONS = {
    "cnn-3d": {"volume_voxels": 24, "field_mm": 60, "feature_size": 64, "volume_batch": 12, "dropout": 0},
    "slice-cnn": {
        **{"plane_voxels": 48, "field_mm": 48, "slab_mm": 2, "feature_size": 32, "widths": (8, 16, 16)},
        **{"scan_batch": 12, "dropout": 0},
    },
    "subject2vec": {"feature_size": 32, "scan_batch": 4, "epochs": 8},
}
"""Augmentation is the default."""


def holed(number, share, mask):
    """(z, y, x) int16 HU of lungs with such a share of holes."""
    noise = np.random.default_rng([5, number]).normal(size=mask.shape)
    grain = gaussian_filter(noise, 1.5)
    hu = np.where(mask > 0, np.where(grain > np.quantile(grain, 1 - share), -970, -820), 40) + 30 * noise
    return hu.clip(-1024, 3071).astype(np.int16)


def cohort():
    """Stores, boxes by scan, and each scan's share of holes."""
    mask, shares = lungs.lungs(), np.random.default_rng(8).uniform(0.02, 0.5, SCANS)
    grid = Grid((0.0, 0.0, 0.0), 1.0, mask.shape[::-1], "LPS")
    volumes = [holed(number, share, mask) for number, share in enumerate(shares)]
    found = [extract_patches(hu, grid, CORNERS, edge=EDGE, outside=-1024) for hu in volumes]
    patches = Patches(tensorstore.array(np.stack(found)))
    about = {"atlas": ATLAS.id, "spacing_mm": 1.0, "axes": "LPS", "origin_mm": [0.0, 0.0, 0.0]}
    every, edges = np.ones(len(CORNERS), bool), np.array([[0, 1]])
    stores, boxes = [], {}
    for row, hu in enumerate(volumes):
        scan, small = f"scan{row}", (every, CORNERS, every.astype(np.float32), edges)
        boxes[scan] = box_of(hu, mask, {"scan": scan, **about})
        stores.append(Store(scan, Path(scan), boxes[scan].card, *small, patches, row))
    return stores, boxes, shares


def r2(network, task, stores, boxes, shares):
    found = [network.predict(whole_scan(network, s, boxes[s.scan], None)) for s in stores]
    error = (task.values(torch.cat(found).numpy())[:, 0] - shares) ** 2
    return 1 - error.sum() / ((shares - shares.mean()) ** 2).sum()


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_a_trained_network_beats_its_own_start(tmp_path, name):
    stores, boxes, shares = cohort()
    train = np.arange(SCANS) % 4 > 0
    known = list(compress(stores, train))
    labels = Labels("holes", (), shares[train].tolist(), (np.arange(len(known)) % 5 == 0).tolist())
    run = Run(name="small", method=name, options={**SHORT, **OPTIONS[name]})
    made = Pretraining(**synthetic.MACHINE), ATLAS, known, [s.scan for s in known]
    job = FoldJob(run, *made, 0, tmp_path, boxes, tmp_path / "volumes", labels=labels)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tested, task = list(compress(stores, ~train)), labels.task()
    start = r2(job.build().network, task, tested, boxes, shares[~train])
    pretrain(job)
    network = weights.load(tmp_path / weights.TENSORS, ATLAS).embedder
    trained = r2(network, task, tested, boxes, shares[~train])
    print(f"R2 {start:.3f} at the start, {trained:.3f} trained")
    assert trained > max(start, 0) + 0.3
