import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import fill_boxes
from methods.narrow import narrow  # noqa: F401
from pydantic import ValidationError
from scipy.stats import ks_2samp
from train import lungs

from ctssl.config.methods import ModelsGenesis as Options
from ctssl.methods.models_genesis import ModelsGenesis
from ctssl.train import augment
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


def published(rng, clean, blocks):
    """A crop (z, y, x) in [0, 1], spoiled as published: shuffled, bent, painted over; in numpy."""
    extent = np.array(clean.shape)
    spoiled = clean.copy()
    if rng.random() < 0.5:
        for _ in range(blocks):
            sides = rng.integers(1, extent // 10 + 1)
            low = rng.integers(0, extent - sides + 1)
            at = tuple(map(slice, low, low + sides))
            spoiled[at] = rng.permutation(clean[at].ravel()).reshape(sides)
    if rng.random() < 0.9:
        points = np.array([[0, 0], rng.random(2), rng.random(2), [1, 1]])
        t = np.linspace(0, 1, 2000)[:, None]
        x, y = ((1 - t) ** np.arange(3, -1, -1) * t ** np.arange(4) * [1, 3, 3, 1] @ points).T
        falls = rng.random() < 0.5
        spoiled = np.interp(spoiled, np.sort(x), np.sort(y)[::-1] if falls else np.sort(y))
    if rng.random() < 0.9:
        inside = rng.random() < 0.2
        covered, number = np.zeros(clean.shape, bool), 0
        while number < 5 and (rng.random() < 0.95 or (number == 0 and not inside)):
            few, many = (extent // 6, extent // 3) if inside else (3 * extent // 7, 4 * extent // 7)
            sides = rng.integers(few, many + 1)
            sides = sides if inside else extent - sides
            low = rng.integers(3, extent - sides - 3 + 1)
            covered[tuple(map(slice, low, low + sides))] = True
            number += 1
        spoiled = np.where(covered == inside, rng.random(clean.shape), spoiled)
    return spoiled


@quick
def test_crops_are_spoiled_as_published():
    """Error, share of voxels that stay, and correlation with the clean crop have the same distributions."""
    rng, count, blocks = np.random.default_rng(2), 400, 200
    hu = rng.integers(-1000, 1001, (count, 20, 20, 20)).astype(np.int16)
    fewer = Options().corrupt.model_copy(update={"shuffle_blocks": blocks})
    method = ModelsGenesis(Options(corrupt=fewer))
    each = torch.arange(count)
    batch = SimpleNamespace(patches=torch.from_numpy(hu), random=sample_keys(0, 0, 0, each, each))
    spoiled, clean = (crops[:, 0].double().numpy() for crops in method.pair(batch))
    wanted = np.stack([published(rng, crop, blocks) for crop in clean])

    def measures(made):
        flat, true = made.reshape(count, -1), clean.reshape(count, -1)
        stay = (np.abs(flat - true) < 1e-4).mean(1)
        alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(flat, true, strict=True)]
        return {"error": ((flat - true) ** 2).mean(1), "stay": stay, "alike": np.array(alike)}

    ours, theirs = measures(spoiled), measures(wanted)
    for name, values in ours.items():
        assert ks_2samp(values, theirs[name]).pvalue > 0.05, name


def test_each_corruption_has_its_share_of_the_crops():
    """Of the crops as published, 64 x 64 x 32, drawn apart from one another."""
    each = torch.arange(20_000)
    frame = augment.Frame((32, 64, 64), -1000, 1000)
    shuffle, curve, paint = augment.draw(Options().corrupt, sample_keys(0, 0, 0, each, each), frame)
    assert (shuffle.blocks, shuffle.longest) == (10_000, (3, 6, 6))
    happens = torch.stack([shuffle.active, curve.active, curve.falling, paint.active, paint.inside]).numpy()
    np.testing.assert_allclose(happens.mean(1), [0.5, 0.9, 0.5, 0.9, 0.2], atol=0.012)
    np.testing.assert_allclose(np.corrcoef(happens), np.eye(5), atol=0.03)


@quick
def test_each_crop_of_a_scan_is_another(boxed):
    batch = batch_of(build(boxed), boxed, number=3)
    assert batch.counts == (3, 3, 3, 3)
    assert len({crop.numpy().tobytes() for crop in batch.patches}) == 12
    scans, numbers = torch.tensor([0, 0, 0]), torch.arange(3)
    assert batch.random[:3].tolist() == sample_keys(0, 0, 0, scans, numbers).tolist()


@quick
def test_crops_are_normalised_with_those_of_their_scans_group(boxed):
    """Three crops a scan, groups of three scans and of one: each group is restored as if it were alone."""
    method = build(boxed, crops=3, bn_groups=2)
    assert [phase.groups for phase in method.phases()] == [2]
    batch, seen = replace(batch_of(method, boxed, number=3), groups=(3, 1)), []
    method.query.network.register_forward_hook(lambda _, given, made: seen.append((given[1], made.detach())))
    for part in (batch, batch.take([0, 1, 2], (3,)), batch.take([3], (1,))):
        method.restore_loss(part, None)
    (groups, together), (_, first), (_, second) = seen
    assert list(groups) == [9, 3]
    torch.testing.assert_close(together, torch.cat([first, second]))


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
