"""moco-v2 finds what a network at random does not, in lungs with holes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from train import lungs, synthetic

from ctssl.config.methods import OPTIONS
from ctssl.methods import load_method
from ctssl.store.boxes import box_of
from ctssl.train.batches import Cohort
from ctssl.train.cuts import embedded_cuts
from ctssl.train.schedule import Plan
from ctssl.train.step import Loader, Stepper
from ctssl.train.team import Team

SCANS = 60

MOCO = {
    **{"volume_voxels": 24, "field_mm": 60, "feature_size": 32, "projection_size": 16, "volume_batch": 15},
    **{"bn_groups": 3, "queue_size": 45, "momentum": 0.9, "epochs": 12, "learning_rate": 0.03},
}


@pytest.fixture(scope="module")
def holed():
    """People whose lungs have holes, of a width, a share and a density around them of their own."""
    atlas, mask, boxes = synthetic.atlas(), lungs.lungs(), {}
    rng = np.random.default_rng(8)
    shares = []
    for number in range(SCANS):
        grain = gaussian_filter(rng.normal(size=mask.shape), rng.uniform(0.8, 2.5))
        shares.append(rng.uniform(0.05, 0.3))
        holes = grain > np.quantile(grain, 1 - shares[-1])
        hu = np.where(mask > 0, np.where(holes, -970, rng.uniform(-880, -800)), 40)
        hu = hu + 30 * rng.normal(size=mask.shape)
        card = {"scan": f"scan{number}", "atlas": atlas.id, "spacing_mm": 1.0}
        boxes[f"scan{number}"] = box_of(hu.clip(-1024, 3071).astype(np.int16), mask, card)
    return SimpleNamespace(atlas=atlas, boxes=list(boxes.values()), shares=np.array(shares))


def score(embedder, people):
    """R2 of a ridge regression of the share of holes on standardised features, over five folds."""
    features = torch.cat([embedder.embed(embedded_cuts(box, embedder.cut)) for box in people.boxes]).numpy()
    fold, predicted = np.arange(SCANS) % 5, np.empty(SCANS)
    for k in range(5):
        train, test = fold != k, fold == k
        mean, sd = features[train].mean(0), features[train].std(0) + 1e-8
        x, centre = (features - mean) / sd, people.shares[train].mean()
        gram = x[train].T @ x[train] + 30 * np.eye(x.shape[1])
        predicted[test] = (
            x[test] @ np.linalg.solve(gram, x[train].T @ (people.shares[train] - centre)) + centre
        )
    error = ((predicted - people.shares) ** 2).sum()
    return 1 - error / ((people.shares - people.shares.mean()) ** 2).sum()


@pytest.mark.slow
def test_moco_beats_its_own_start(holed):
    torch.manual_seed(1)
    options = OPTIONS["moco-v2"].model_validate(MOCO)
    method = load_method("moco-v2").build(options, holed.atlas)
    method.to(memory_format=torch.channels_last_3d)
    start = score(method.query, holed)
    cohort = Cohort(np.ones((SCANS, 6), bool), np.arange(SCANS))
    phases = method.phases()
    optimiser = torch.optim.SGD(phases[0].parameters, lr=1, momentum=0.9)
    stepper = Stepper(method, [optimiser], options, team=Team(), bf16=False)
    loader = Loader([], cohort, phases, 0, Team(), 1, pinned=False, boxes=holed.boxes)
    for step in Plan(phases, cohort, options.epochs, 0).steps():
        stepper(step, loader(step), options.learning_rate)
    trained = score(method.query, holed)
    print(f"R2 {start:.3f} at the start, {trained:.3f} trained")
    assert trained > start + 0.1
