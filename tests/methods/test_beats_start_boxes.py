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
    **{"volume_voxels": 32, "field_mm": 48, "feature_size": 32, "projection_size": 16, "volume_batch": 30},
    **{"bn_groups": 2, "queue_size": 30, "momentum": 0.9, "epochs": 30, "learning_rate": 0.03},
    "hu_max": -600,  # holes differ from the lung around them by a tenth of the published window
    "augment": {
        **{"steps": ["noise", "warp"], "translation_voxels": 1, "elastic_magnitude": 0},
        **{"rotation_deg": 5, "scale": 0.05},
    },
}
GUESSING = np.log(MOCO["queue_size"])
"""The loss of a query that tells its key from none of the others' keys, a collapsed one too."""


@pytest.fixture(scope="module")
def holed():
    """People whose lungs have holes, of a width, a share and a density around them of their own."""
    atlas, mask, boxes = synthetic.atlas(), lungs.lungs(), {}
    rng = np.random.default_rng(8)
    shares = []
    for number in range(SCANS):
        grain = gaussian_filter(rng.normal(size=mask.shape), rng.uniform(2, 4))
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


def trained(method, people, epochs, rate):
    """The terms of each step of a training at this rate, in order."""
    cohort, [phase] = Cohort(np.ones((SCANS, 6), bool), np.arange(SCANS)), method.phases()
    optimiser = torch.optim.SGD(phase.parameters, lr=1, momentum=0.9)
    stepper = Stepper(method, [optimiser], method.options, team=Team(), bf16=False)
    loader = Loader([], cohort, [phase], 0, Team(), 1, pinned=False, boxes=people.boxes)
    return [stepper(step, loader(step), rate) for step in Plan([phase], cohort, epochs, 0).steps()]


@pytest.mark.slow
def test_moco_beats_its_own_start(holed):
    """R2 of the share of holes: 0.18 beside -0.21 of the start with the cohort's statistics (seen).

    By seed 2 it is 0.14 beside -0.50. The last losses are 2.6 and 2.8, where guessing is 3.4. Of holes half
    as wide, which volumes of 32 voxels hardly show, one seed of the two learnt nothing in this time: the
    loss stayed that of guessing and `embedding_std` fell to 0.15.
    """
    torch.manual_seed(1)
    options = OPTIONS["moco-v2"].model_validate(MOCO)
    method = load_method("moco-v2").build(options, holed.atlas)
    method.to(memory_format=torch.channels_last_3d)
    trained(method, holed, 2, 0.0)  # moves running statistics alone
    start = score(method.query, holed)
    terms = trained(method, holed, options.epochs, options.learning_rate)
    end, last = score(method.query, holed), {n: np.mean([t[n] for t in terms[-6:]]) for n in terms[0]}
    print(f"R2 {start:.3f} at the start, {end:.3f} trained; {last}")
    assert end > max(start, 0) + 0.1
    assert last["total"] < GUESSING - 0.4
    assert last["embedding_std"] > 0.4
