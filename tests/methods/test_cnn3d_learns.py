"""cnn-3d says of lungs that it was not trained on how many holes they have; its own start does not."""

from itertools import compress
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from train import lungs, synthetic

from ctssl.config.study import Pretraining, Run
from ctssl.store.boxes import box_of
from ctssl.train import weights
from ctssl.train.cuts import embedded_cuts
from ctssl.train.fold import FoldJob
from ctssl.train.labels import Labels
from ctssl.train.loop import pretrain

SCANS = 80
OPTIONS = {
    **{"volume_voxels": 24, "field_mm": 60, "feature_size": 16, "volume_batch": 12, "epochs": 30},
    **{"patience": 30, "learning_rate": 0.002, "dropout": 0, "augment": {"steps": []}},
}


def holed(number, share, mask, atlas):
    """The box of lungs with such a share of holes."""
    noise = np.random.default_rng([5, number]).normal(size=mask.shape)
    grain = gaussian_filter(noise, 1.5)
    hu = np.where(mask > 0, np.where(grain > np.quantile(grain, 1 - share), -970, -820), 40) + 30 * noise
    card = {"scan": f"scan{number}", "atlas": atlas.id, "spacing_mm": 1.0}
    return box_of(hu.clip(-1024, 3071).astype(np.int16), mask, card)


def r2(network, task, boxes, shares):
    found = torch.cat([network.predict(embedded_cuts(box, network.cut)) for box in boxes]).numpy()
    error = (task.values(found)[:, 0] - shares) ** 2
    return 1 - error.sum() / ((shares - shares.mean()) ** 2).sum()


@pytest.mark.slow
def test_a_trained_network_beats_its_own_start(tmp_path):
    atlas, mask = synthetic.atlas(), lungs.lungs()
    shares, train = np.random.default_rng(8).uniform(0.02, 0.5, SCANS), np.arange(SCANS) % 4 > 0
    boxes = [holed(number, share, mask, atlas) for number, share in enumerate(shares)]
    stores = [SimpleNamespace(scan=b.scan, valid=np.ones(6, bool), card=b.card) for b in boxes]
    known = list(compress(stores, train))
    labels = Labels("holes", (), shares[train].tolist(), (np.arange(len(known)) % 5 == 0).tolist())
    run = Run(name="cnn", method="cnn-3d", options=OPTIONS)
    made = Pretraining(**synthetic.MACHINE), atlas, known, [s.scan for s in known]
    job = FoldJob(run, *made, 0, tmp_path, {b.scan: b for b in boxes}, labels=labels)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tested, truth, task = list(compress(boxes, ~train)), shares[~train], labels.task()
    start = r2(job.build().network, task, tested, truth)
    pretrain(job)
    trained = r2(weights.load(tmp_path / weights.TENSORS, atlas).embedder, task, tested, truth)
    print(f"R2 {start:.3f} at the start, {trained:.3f} trained")
    assert trained > max(start, 0) + 0.3
