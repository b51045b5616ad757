import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import fill_boxes
from methods.narrow import narrow  # noqa: F401
from pydantic import ValidationError
from train import lungs

from ctssl.config.methods import ModelsGenesis as Options
from ctssl.methods.models_genesis import ModelsGenesis
from ctssl.train.batches import Cohort
from ctssl.train.cuts import cut_sample, embedded_cuts, read_cuts
from ctssl.train.random import sample_keys

quick = pytest.mark.usefixtures("narrow")
SMALL = {"crop_voxels": (16, 16, 16), "tries": 1}


@pytest.fixture(scope="module")
def boxed(people, tmp_path_factory):
    return lungs.with_boxes(people, tmp_path_factory.mktemp("genesis"))


def build(people, **changes):
    return ModelsGenesis.build(Options(**{**SMALL, **changes}), people.atlas)


def batch_of(method, people, scans=(0, 3, 2, 4), number=1):
    [phase] = method.phases()
    cut = replace(phase.cut, number=number)
    cohort, boxes = Cohort.of(people.stores, people.subjects), [people.boxes[s.scan] for s in people.stores]
    sample = cut_sample(np.array(scans), cut)
    return read_cuts(boxes, cohort, sample, cut, (0, 0, 0), None).drawn(sample, 0, 0, 0)


@quick
def test_the_loss_is_the_mean_squared_error_from_the_clean_crop(boxed):
    """In numpy: against HU from the window onto 0 to 1, flipped as the input is, and else as it was read."""
    method = build(boxed, hu_min=-900, hu_max=50)
    batch, seen = batch_of(method, boxed), []
    method.query.network.register_forward_hook(lambda _, given, made: seen.append((given[0], made.detach())))
    terms = method.restore_loss(batch, None)
    ((given, made),) = seen
    _, clean = method.pair(batch)
    hu = batch.patches.numpy().astype(float)
    unit = (np.clip(hu, -900, 50) + 900) / 950
    flips = [(), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)]
    for crop, target in zip(unit, clean.numpy()[:, 0], strict=True):
        assert any(np.allclose(np.flip(crop[None], f)[0], target, atol=1e-6) for f in flips)
    error = made.numpy().astype(float) - clean.numpy()
    assert float(terms["total"].detach()) == pytest.approx((error**2).mean(), rel=1e-5)
    spoiled = given.numpy().astype(float) - clean.numpy()
    assert float(terms["input_error"]) == pytest.approx((spoiled**2).mean(), rel=1e-5)
    assert terms["input_error"] > 0.01


@quick
def test_the_target_is_flipped_along_z_too_and_never_spoiled(boxed):
    """The release flips along the axis of channels in place of z."""
    method = build(
        boxed, flip={"steps": ["turn"], "turn_probability": 0, "flip_probability": 1, "flip_rounds": 1}
    )
    flipped = set()
    for scans in ((0, 1, 2, 3), (4, 2, 1, 0)):
        batch = batch_of(method, boxed, scans, number=3)
        _, clean = method.pair(batch)
        plain = method.query.to_unit(batch.patches)
        for one, target in zip(plain, clean, strict=True):
            (axis,) = (a for a in (1, 2, 3) if torch.allclose(one.flip(a), target, atol=1e-6))
            flipped.add(axis)
    assert 1 in flipped
    assert len(flipped) > 1


@quick
def test_each_crop_of_a_scan_is_another(boxed):
    batch = batch_of(build(boxed), boxed, number=3)
    assert batch.counts == (3, 3, 3, 3)
    assert len({crop.numpy().tobytes() for crop in batch.patches}) == 12
    scans, numbers = torch.tensor([0, 0, 0]), torch.arange(3)
    assert batch.random[:3].tolist() == sample_keys(0, 0, 0, scans, numbers).tolist()


@quick
def test_features_are_means_of_the_bottleneck_over_space_and_windows(boxed):
    method = build(boxed, window_step=0.7, least_lung=0.0)
    cuts = embedded_cuts(boxed.boxes["scan1"], method.query.cut)
    assert len(cuts.patches) > 9
    network = method.query.network.eval()
    with torch.no_grad():
        each = [network.bottleneck(method.query.to_unit(w[None])).mean((2, 3, 4))[0] for w in cuts.patches]
    torch.testing.assert_close(method.embed(cuts)[0], torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)


@quick
def test_the_statistics_of_what_is_embedded_are_used_only_when_asked(boxed):
    running, released = build(boxed), build(boxed, batch_statistics=True)
    released.load_state_dict(running.state_dict())
    cuts = embedded_cuts(boxed.boxes["scan1"], running.query.cut)
    assert not torch.allclose(running.embed(cuts), released.embed(cuts), rtol=0.05)


@pytest.mark.parametrize("voxels", [(16, 16, 20), (8, 16, 16), (0, 16, 16)])
def test_crops_that_the_network_cannot_halve_are_refused(voxels):
    with pytest.raises(ValidationError, match="multiples of 8 from 16 on"):
        Options(crop_voxels=voxels)


@pytest.mark.slow
def test_the_losses_of_a_training_are_those_written_down(tmp_path):
    """To 1e-3 relative: other instructions of the processor round otherwise."""
    wanted = json.loads(fill_boxes.FILE.read_text())["models-genesis"]
    got = fill_boxes.losses(tmp_path, "models-genesis")
    np.testing.assert_allclose(got, wanted, rtol=1e-3)
    assert np.mean(got[-4:]) < 0.8 * np.mean(got[:4])
