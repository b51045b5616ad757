import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from ctssl.config.augment import PRESETS, Augment
from ctssl.train.augment import Frame, Share, apply, augmented, corrupt, draw
from ctssl.train.augment.corrupt import boxes, shuffled
from ctssl.train.augment.intensity import bezier, blur, through
from ctssl.train.augment.orient import turn
from ctssl.train.augment.pipeline import STEPS
from ctssl.train.random import sample_keys

EXTENT = (16, 24, 24)
FRAME = Frame(EXTENT, -1000, 1000)


def patches(count, extent=EXTENT):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.uniform(-1000, 1000, (count, *extent))).float()


def keys(count, seed=0):
    return sample_keys(seed, 0, 0, torch.arange(count), torch.zeros(count, dtype=torch.long))


def one(name, count=2000, **changes):
    """A step's draws for many keys."""
    return draw(Augment(steps=(name,), **changes), keys(count), FRAME)[0]


def done(name, hu, **changes):
    """Patches after one step."""
    options, some = Augment(steps=(name,), **changes), keys(len(hu))
    return apply(draw(options, some, FRAME), hu, Share(torch.arange(len(hu)), some), FRAME)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_probability_0_leaves_the_patches_and_of_1_changes_them(name):
    hu = patches(4)
    never = {f"{n}_probability": 0 for n in ("gamma", "noise", "warp", "flip", "turn", "blur", "shift")}
    never |= {f"{n}_probability": 0 for n in ("curve", "shuffle", "paint")}
    assert torch.allclose(done(name, hu, **never), hu, atol=0.3)
    assert name == "warp" or torch.equal(done(name, hu, **never), hu)
    always = done(name, hu, **dict.fromkeys(never, 1))
    assert not (always == hu).flatten(1).all(1).any()
    assert always.dtype == torch.float32
    assert always.shape == hu.shape
    assert done(name, hu[:0]).shape == (0, *EXTENT)


def test_turns_and_flips_are_numpys():
    hu = patches(32)
    quarters = torch.arange(32) % 4
    flips = torch.tensor(list(itertools.product([False, True], repeat=3)))[torch.arange(32) // 4]
    out = turn(hu, quarters, flips).numpy()
    for i in range(32):
        expected = np.rot90(hu[i].numpy(), int(quarters[i]), axes=(1, 2))
        assert np.array_equal(out[i], np.flip(expected, np.flatnonzero(flips[i].numpy())))
    with pytest.raises(ValueError, match="as many voxels along y as along x"):
        turn(torch.zeros(1, 4, 5, 6), torch.tensor([1]), torch.zeros(1, 3, dtype=torch.bool))
    assert turn(torch.zeros(1, 4, 5, 6), torch.tensor([0]), torch.ones(1, 3, dtype=torch.bool)).any() == 0


def test_turns_and_flips_have_their_probabilities():
    step = one("turn", 20_000, turn_probability=0.2, flip_probability=0.2)
    shares = torch.bincount(step.quarters, minlength=4) / 20_000
    np.testing.assert_allclose(shares, [0.8, 0.2 / 3, 0.2 / 3, 0.2 / 3], atol=0.012)
    np.testing.assert_allclose(step.flips.float().mean(0), [0.2] * 3, atol=0.012)


def test_flips_in_rounds_are_models_genesiss():
    """While a coin of 0.4 falls and at most 3 times: flip one of the three axes."""
    rng, count = np.random.default_rng(0), np.zeros(8)
    for _ in range(60_000):
        flips, rounds = [0, 0, 0], 0
        while rng.random() < 0.4 and rounds < 3:
            flips[rng.integers(3)] ^= 1
            rounds += 1
        count[flips[0] * 4 + flips[1] * 2 + flips[2]] += 1
    step = one("turn", 60_000, flip_probability=0.4, flip_rounds=3)
    got = torch.bincount((step.flips * torch.tensor([4, 2, 1])).sum(1), minlength=8) / 60_000
    np.testing.assert_allclose(got, count / 60_000, atol=0.01)


def test_blur_equals_scipys():
    hu = patches(3)
    sigma = torch.tensor([[0.0, 0.7, 2.0], [1.3, 0.0, 0.0], [0.05, 1.99, 0.4]])
    out = blur(hu, sigma, 2.0)
    for i in range(3):
        expected = gaussian_filter(hu[i].numpy().astype(float), sigma[i].numpy().astype(float))
        np.testing.assert_allclose(out[i], expected, atol=0.01)
    drawn = one("blur").sigma_voxels
    assert (drawn > 0).all(1).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert 1.9 < drawn.max() < 2


@pytest.mark.parametrize("most", [4.0, 9.0, 30.0, 64.0])
def test_a_wide_blur_meets_both_mirrors_again_and_again(most):
    """EXTENT is 16, 24, 24: the tail of sigma 64 passes it 16 times."""
    hu = patches(2)
    hu[0, 0] += 1000  # a face that is unlike the rest
    sigma = torch.tensor([[most] * 3, [most, most / 3, 0.0]])
    for out, patch, width in zip(blur(hu, sigma, most), hu, sigma, strict=True):
        expected = gaussian_filter(patch.numpy().astype(float), width.numpy().astype(float))
        np.testing.assert_allclose(out, expected, atol=0.02)


def test_no_blur_is_cut_short_by_its_range():
    """The step itself, with options of a wide range, is scipy's."""
    hu = patches(3)
    options = {"blur_probability": 1, "blur_sigma_voxels": (20, 20)}
    for out, patch in zip(done("blur", hu.clone(), **options), hu, strict=True):
        np.testing.assert_allclose(out, gaussian_filter(patch.numpy().astype(float), 20), atol=0.02)


def test_shift_is_a_share_of_the_window():
    by = one("shift", 20_000, shift_probability=1).by_hu
    assert (by.min().item(), by.max().item()) == pytest.approx((-200, 200), abs=1)
    hu = patches(3)
    moved = done("shift", hu, shift_probability=1) - hu
    np.testing.assert_allclose(moved.flatten(1).std(1), 0, atol=1e-3)


def test_curves_are_bezier_curves():
    """x and y of the cubic with its Bernstein polynomials; numpy's interpolation between 20,000 points."""
    rng = np.random.default_rng(1)
    control = rng.random((6, 2, 2))
    control[0] = [[1, 0], [0, 1]]  # the steepest
    control[1] = [[1 / 3, 1 / 3], [2 / 3, 2 / 3]]  # a straight line
    falling = np.array([0, 0, 0, 1, 1, 0], bool)
    t = np.linspace(0, 1, 20_001)[:, None]
    weights = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
    values = torch.linspace(0, 1, 16 * 24 * 24).view(1, *EXTENT).expand(6, -1, -1, -1)
    curve = bezier(torch.tensor(control).float(), torch.tensor(falling))
    out = through(curve, values)
    for i in range(6):
        points = weights[1] * control[i, 0] + weights[2] * control[i, 1] + weights[3]
        x, y = points.T
        y = y[::-1] if falling[i] else y
        expected = np.interp(values[i].numpy().ravel(), x, y)
        np.testing.assert_allclose(out[i].numpy().ravel(), expected, atol=0.004 if i else 0.03)
    np.testing.assert_allclose(out[1], values[1], atol=1e-5)
    ends = through(curve, torch.tensor([-1.0, 0.0, 1.0, 2.0]).expand(6, 1, 1, -1))[:, 0, 0]
    assert torch.equal(ends[0], torch.tensor([0.0, 0, 1, 1]))
    assert torch.equal(ends[3], torch.tensor([1.0, 1, 0, 0]))
    assert one("curve").falling.float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_shuffling_permutes_within_blocks_the_last_counts():
    """One block is a permutation of itself; of many, voxels move by less than the longest side."""
    many = keys(200)
    places = shuffled(many, EXTENT, 1, (3, 4, 2))
    here = torch.arange(places.shape[1])
    sizes = set()
    for row in places:
        moved = (row != here).nonzero()[:, 0]
        assert sorted(row.tolist()) == here.tolist()
        if len(moved):
            z, y, x = np.unravel_index(moved.numpy(), EXTENT)
            sides = [int(np.ptp(a)) + 1 for a in (z, y, x)]
            assert all(s <= m for s, m in zip(sides, (3, 4, 2), strict=True))
            sizes.add(tuple(sides))
    assert (3, 4, 2) in sizes
    places = shuffled(many[:3], EXTENT, 500, (3, 4, 2))
    away = [
        abs(a - b)
        for a, b in zip(*(np.unravel_index(p.numpy(), EXTENT) for p in (places, here[None])), strict=True)
    ]
    assert [int(a.max()) for a in away] == [2, 3, 1]


def reference_shuffle(rng, extent, blocks, longest):
    """Which voxels are read from where, block by block, as in the paper."""
    start = np.arange(np.prod(extent)).reshape(extent)
    out = start.copy()
    for _ in range(blocks):
        sides = [rng.integers(1, m + 1) for m in longest]
        at = [rng.integers(0, e - s + 1) for e, s in zip(extent, sides, strict=True)]
        box = tuple(slice(a, a + s) for a, s in zip(at, sides, strict=True))
        out[box] = rng.permutation(start[box].ravel()).reshape(sides)
    return (out != start).mean(), np.unique(out).size / out.size


def test_shuffling_is_distributed_as_block_by_block():
    """Share of voxels that changed, and share of values that are still there."""
    rng = np.random.default_rng(0)
    want = np.array([reference_shuffle(rng, EXTENT, 800, (3, 4, 2)) for _ in range(60)])
    places = shuffled(keys(60), EXTENT, 800, (3, 4, 2))
    here = torch.arange(places.shape[1])
    got = np.array([[(p != here).float().mean(), len(p.unique()) / len(p)] for p in places])
    np.testing.assert_allclose(got.mean(0), want.mean(0), atol=0.005)
    np.testing.assert_allclose(got.std(0), want.std(0), rtol=0.4)


def test_memory_of_shuffling_does_not_grow_with_the_batch(monkeypatch):
    """Patches go through a few at a time; nothing changes."""
    hu, most = patches(9), []

    def counted(keys, *how):
        most.append(len(keys))
        return shuffled(keys, *how)

    options = {"shuffle_probability": 1, "shuffle_blocks": 100}
    want = done("shuffle", hu, **options)
    monkeypatch.setattr(corrupt, "shuffled", counted)
    monkeypatch.setattr(corrupt, "CACHED_NUMBERS", 100 * 1 * 2 * 2 * 4)
    assert torch.equal(done("shuffle", hu, **options), want)
    assert most == [4, 4, 1]


def test_a_block_is_shuffled_evenly():
    """Each voxel of a block of 4 comes from each equally often."""
    places = shuffled(keys(40_000), (2, 2, 2), 1, (1, 2, 2))
    first = places[:, :4]
    whole = (first != torch.arange(4)).all(1)  # derangements of the whole 2 x 2 face: 9 of 24
    counts = torch.bincount(first[whole][:, 0], minlength=4)[1:4].float()
    np.testing.assert_allclose(counts / counts.sum(), [1 / 3] * 3, atol=0.02)


def test_painting_inside_and_outside():
    frame = Frame((32, 64, 64), -1000, 1000)
    step = draw(Augment(steps=("paint",)), keys(20_000), frame)[0]
    assert step.active.float().mean().item() == pytest.approx(0.9, abs=0.01)
    assert step.inside.float().mean().item() == pytest.approx(0.2, abs=0.01)
    there = (step.sides > 0).all(2)
    shares = torch.bincount(there[step.inside].sum(1), minlength=6) / step.inside.sum()
    expected = [0.05, *(0.05 * 0.95**k for k in range(1, 5)), 0.95**5]
    np.testing.assert_allclose(shares, expected, atol=0.02)
    assert there[~step.inside].sum(1).min() == 1
    for inside, low, high in ((True, (5, 10, 10), (10, 21, 21)), (False, (14, 28, 28), (19, 37, 37))):
        sides = step.sides[step.inside == inside][there[step.inside == inside]]
        assert sides.amin(0).tolist() == list(low)
        assert sides.amax(0).tolist() == list(high)
    ends = (step.corners + step.sides)[there]
    assert step.corners[there].amin(0).tolist() == [3, 3, 3]
    assert ends.amax(0).tolist() == [29, 61, 61]


def test_painted_voxels_are_noise_over_the_window_and_others_stay():
    hu = patches(40)
    for inside in (1, 0):
        options = {"paint_probability": 1, "inpaint_probability": inside}
        out = done("paint", hu, **options)
        step = draw(Augment(steps=("paint",), **options), keys(40), FRAME)[0]
        covered = np.zeros((40, *EXTENT), bool)
        for i in range(40):
            for (z, y, x), (d, h, w) in zip(step.corners[i].tolist(), step.sides[i].tolist(), strict=True):
                covered[i, z : z + d, y : y + h, x : x + w] = True
        assert np.array_equal(boxes(step.corners, step.sides, EXTENT).numpy(), covered)
        painted = torch.from_numpy(covered if inside else ~covered)
        assert torch.equal(out[~painted], hu[~painted])
        noise = out[painted]
        assert -1000 <= noise.min() < -990
        assert 990 < noise.max() <= 1000
        assert noise.std().item() == pytest.approx(2000 / 12**0.5, rel=0.02)


def test_a_targets_stage_and_its_corruption_follow_one_another():
    """PCRL and Models Genesis: the target is the turned clean patch, the input the same, spoiled."""
    hu, some = patches(3), keys(3)
    for name in ("pcrl", "models-genesis"):
        *clean, last = PRESETS[name]
        target = hu
        for stage in clean:
            target = augmented(stage, target, some, (-1000, 1000))[:, 0] * 1000
        small = last.model_copy(update={"shuffle_blocks": 50})
        spoiled = augmented(small, target, some, (-1000, 1000))[:, 0] * 1000
        assert spoiled.isfinite().all()
        assert (spoiled != target).float().mean() > 0.2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"steps": ["gamma", "gamma"]}, "at most once"),
        ({"steps": ["gama"]}, "gamma"),
        ({"rotation_deg": -1}, "0 or more"),
        ({"rotation_deg": (10, -5, 0)}, "0 or more"),
        ({"blur_sigma_voxels": (2, 1)}, "rising"),
        ({"blur_sigma_voxels": (0, 65)}, "a patch is its mean"),
        ({"gamma_range": (0, 1)}, "above 0"),
        ({"shuffle_share": 1.0}, "fill a patch 1e.04 times; at most 20"),
        ({"shuffle_blocks": 20_001}, "at most 20"),
        ({"shuffle_blocks": 10**9, "shuffle_share": 0.001}, "100000"),
    ],
)
def test_wrong_options_are_refused(wrong, words):
    with pytest.raises(ValidationError, match=words):
        Augment(**wrong)


@pytest.mark.parametrize(("blocks", "share"), [(20, 1.0), (160, 0.5), (20_000, 0.1)])
def test_as_many_blocks_as_fit_are_shuffled(blocks, share):
    hu = patches(2)
    some = keys(2)
    options = Augment(steps=("shuffle",), shuffle_probability=1, shuffle_blocks=blocks, shuffle_share=share)
    out = apply(draw(options, some, FRAME), hu.clone(), Share(torch.arange(2), some), FRAME)
    assert (out != hu).float().mean() > 0.5
