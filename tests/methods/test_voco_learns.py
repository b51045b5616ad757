"""voco finds the places of crops of scans that it was not trained on, and a network at random does not.

Crops stay as they are: where they are turned and mirrored, it takes more steps than a test may.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from train import lungs, synthetic

from ctssl.config.methods import Voco as Options
from ctssl.methods.voco import Voco
from ctssl.store.boxes import box_of
from ctssl.train.basecrops import BaseCrops, corner, random_places
from ctssl.train.batches import Cohort
from ctssl.train.cuts import cut_sample, read_cuts
from ctssl.train.schedule import Plan, cosine
from ctssl.train.step import Loader, Stepper
from ctssl.train.team import Team

SCANS, HELD_OUT = 36, 12
OPTIONS = {
    **{"crop_voxels": (16, 16, 16), "grid": (2, 3), "random_crops": 6, "crop_batch": 4, "width": 4},
    **{"projection_size": 64, "epochs": 100, "learning_rate": 2e-3, "augment": {"steps": []}},
}


@pytest.fixture(scope="module")
def lying():
    """People on their backs: denser below, with grain and density of their own."""
    atlas, mask, boxes = synthetic.atlas(), lungs.lungs(), []
    rng = np.random.default_rng(8)
    depth = np.linspace(-1, 1, mask.shape[1])[:, None]
    for number in range(SCANS):
        grain = gaussian_filter(rng.normal(size=mask.shape), rng.uniform(0.8, 2.5))
        inside = rng.uniform(-880, -780) + rng.uniform(30, 80) * depth + 60 * grain / grain.std()
        hu = np.where(mask > 0, inside, 40 + 20 * rng.normal(size=mask.shape))
        card = {"scan": f"scan{number}", "atlas": atlas.id, "spacing_mm": 1.0}
        boxes.append(box_of(hu.clip(-1024, 3071).astype(np.int16), mask, card))
    return SimpleNamespace(atlas=atlas, boxes=boxes)


def batch_of(boxes, cut):
    """All these scans, with draws that no training has."""
    scans = np.arange(len(boxes))
    cohort, sample = Cohort(np.ones((len(boxes), 6), bool), scans), cut_sample(scans, cut)
    return read_cuts(boxes, cohort, sample, cut, (99, 0, 0), None).drawn(sample, 99, 0, 0)


@torch.no_grad()
def place_r2(method, people):
    """R2 of a ridge regression of where a crop of a held-out scan lies, y and x, on its features."""
    cut = BaseCrops(method.cut.extent, method.cut.grid, 12)
    batch = batch_of(people.boxes, cut)
    chosen = torch.arange(len(batch.random)) % cut.number >= cut.bases
    corners = [
        corner(box, cut, key)[1:] for box, key in zip(people.boxes, batch.scan_random.split(1), strict=True)
    ]
    places = random_places(batch.random[chosen], cut).double().numpy() + np.repeat(corners, 12, 0)
    unit = (batch.patches[chosen].float().clamp(-1024, 240) + 1024) / 1264
    features = method.query.network.eval()(unit.permute(0, 3, 2, 1)[:, None]).double().numpy()
    train = np.arange(len(features)) < 12 * (SCANS - HELD_OUT)
    x = (features - features[train].mean(0)) / (features[train].std(0) + 1e-8)
    centre = places[train].mean(0)
    gram = x[train].T @ x[train] + 10 * np.eye(x.shape[1])
    predicted = x[~train] @ np.linalg.solve(gram, x[train].T @ (places[train] - centre)) + centre
    there = places[~train]
    return 1 - ((predicted - there) ** 2).sum() / ((there - there.mean(0)) ** 2).sum()


@torch.no_grad()
def correlation(method, people):
    """Of likenesses with overlaps, in scans held out."""
    return float(method.place_loss(batch_of(people.boxes[-HELD_OUT:], method.cut), None)["correlation"])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["teacher", "paper"])
def test_voco_beats_its_own_start(lying, form):
    torch.manual_seed(1)
    options = Options(**OPTIONS, form=form)
    method = Voco.build(options, lying.atlas)
    method.to(memory_format=torch.channels_last_3d)
    start = correlation(method, lying), place_r2(method, lying)
    trained = SCANS - HELD_OUT
    cohort = Cohort(np.ones((trained, 6), bool), np.arange(trained))
    phases = method.phases()
    optimiser = torch.optim.Adam(phases[0].parameters)
    stepper = Stepper(method, [optimiser], options, team=Team(), bf16=False)
    loader = Loader([], cohort, phases, 0, Team(), 1, pinned=False, boxes=lying.boxes[:trained])
    plan = Plan(phases, cohort, options.epochs, 0)
    for step in plan.steps():
        rate = cosine(options.learning_rate, step.of_phase, plan.totals()[0])
        terms = stepper(step, loader(step), rate)
    end = correlation(method, lying), place_r2(method, lying)
    print(f"{form}: correlation {start[0]:.3f} to {end[0]:.3f}, R2 {start[1]:.3f} to {end[1]:.3f}")
    assert end[0] > start[0] + 0.3
    assert end[1] > start[1] + 0.04
    assert terms["embedding_std"] > 0.3
