from dataclasses import replace

import numpy as np
import pytest
import torch

from ctssl.config.augment import PRESETS, Augment
from ctssl.train.augment import Frame, Share, apply, augmented, draw, to_window
from ctssl.train.augment.intensity import add_noise, adjust_contrast
from ctssl.train.augment.warp import resample
from ctssl.train.random import of_view, sample_keys

STILL = Augment(
    gamma_probability=0,
    noise_probability=0,
    rotation_deg=0,
    translation_voxels=0,
    scale=0,
    elastic_magnitude=0,
)
FRAME = Frame((32, 32, 32), -1024, 240)
WINDOW = (-1024, 240)
ALWAYS = Augment(gamma_probability=1, noise_probability=1)


def patches(count, seed=0, extent=(32, 32, 32)):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(-1024, 240, (count, *extent))).float()


def keys(count, *, seed=0, epoch=0):
    return sample_keys(seed, 0, epoch, torch.arange(count), torch.full((count,), 5))


def each(some):
    return Share(torch.arange(len(some)), some)


def test_draws_have_the_published_distributions():
    contrast, noise = draw(Augment(steps=("gamma", "noise")), keys(20_000), FRAME)
    gamma, sigma = contrast.exponent[contrast.exponent != 1], noise.sigma_hu[noise.sigma_hu != 0]
    for values, low, high in ((gamma, 0.5, 4.5), (sigma, 0, 50)):
        assert len(values) / 20_000 == pytest.approx(0.25, abs=0.015)
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
        assert values.mean().item() == pytest.approx((low + high) / 2, rel=0.02)


def test_contrast_is_the_published_formula_over_all_patches_of_a_draw():
    hu, gamma = patches(4), torch.tensor([2.0, 1.0, 0.5])
    out = adjust_contrast(hu.clone(), gamma, torch.tensor([0, 1, 2, 2])).numpy()
    for mine, power in (([0], 2.0), ([1], 1.0), ([2, 3], 0.5)):
        x = hu[mine].numpy().astype(float)
        span = x.max() - x.min()
        expected = ((x - x.min()) / (span + 1e-7)) ** power * span + x.min()
        np.testing.assert_allclose(out[mine], expected, atol=0.05)
    flat = torch.full((1, 32, 32, 32), -1024.0)
    same = adjust_contrast(flat.clone(), torch.tensor([3.0]), torch.zeros(1, dtype=torch.long))
    assert torch.equal(same, flat)


def test_noise_has_its_sigma_and_is_independent():
    out = add_noise(torch.zeros(3, 32, 32, 32), torch.tensor([30.0, 0.0, 50.0]), keys(3))
    assert out[0].std().item() == pytest.approx(30, rel=0.02)
    assert out[2].std().item() == pytest.approx(50, rel=0.02)
    assert not out[1].any()
    assert abs(np.corrcoef(out[0].flatten(), out[2].flatten())[0, 1]) < 0.02


def test_steps_are_done_in_their_order():
    hu, some = patches(2), keys(2)
    for order in (("gamma", "noise", "warp"), ("warp", "noise", "gamma")):
        drawn = draw(ALWAYS.model_copy(update={"steps": order}), some, FRAME)
        contrast, noise, warp = (drawn[order.index(name)] for name in ("gamma", "noise", "warp"))
        by_hand = hu.clone()
        for name in order:
            if name == "gamma":
                by_hand = adjust_contrast(by_hand, contrast.exponent, torch.arange(2))
            elif name == "noise":
                by_hand = add_noise(by_hand, noise.sigma_hu, some)
            else:
                by_hand = resample(by_hand, warp.points(torch.arange(2)))
        assert torch.equal(apply(drawn, hu, each(some), FRAME), by_hand)


def test_still_options_leave_the_patch_and_the_window_is_the_published_one():
    hu = patches(2)
    before = hu.clone()
    same = apply(draw(STILL, keys(2), FRAME), hu, each(keys(2)), FRAME)
    np.testing.assert_allclose(same.numpy(), hu.numpy(), atol=0.15)
    apply(draw(ALWAYS, keys(2), FRAME), hu, each(keys(2)), FRAME)
    assert torch.equal(hu, before)
    windowed = to_window(hu, *WINDOW)
    assert windowed.shape == (2, 1, 32, 32, 32)
    np.testing.assert_allclose(windowed[:, 0].numpy(), (hu.numpy() + 1024) / 632 - 1, atol=1e-6)


def test_values_beyond_the_window_are_clipped_and_types_agree():
    hu = (patches(2) * 3).short()
    still = Augment(steps=())
    out = augmented(still, hu, keys(2), WINDOW)
    assert (out.min(), out.max()) == (-1, 1)
    assert torch.equal(augmented(still, hu.float(), keys(2), WINDOW), out)
    low = augmented(Augment(), hu, keys(2), WINDOW, dtype=torch.bfloat16)
    assert torch.equal(low, augmented(Augment(), hu, keys(2), WINDOW).bfloat16())
    near = augmented(Augment(), hu.bfloat16(), keys(2), WINDOW)
    assert (near - augmented(Augment(), hu.float(), keys(2), WINDOW)).abs().mean() < 0.01


@pytest.mark.parametrize("name", PRESETS)
def test_a_view_does_not_depend_on_batch_order_or_threads(name):
    """Bit by bit: keys and elementwise work are exact, and the products are done patch by patch."""
    if name == "moco-v2":
        pytest.skip("its lengths are those of 256 voxels; its steps are context-aware's and blur")
    options = PRESETS[name][-1].model_copy(update={"gamma_probability": 1, "noise_probability": 0.5})
    if "shuffle" in options.steps:
        options = options.model_copy(update={"shuffle_blocks": 300})
    hu, some = patches(19), keys(19)
    want = augmented(options, hu, some, WINDOW)
    order = torch.randperm(19)
    assert torch.equal(augmented(options, hu[order], some[order], WINDOW), want[order])
    for i in (0, 7, 18):
        assert torch.equal(augmented(options, hu[i : i + 1], some[i : i + 1], WINDOW)[0], want[i])
    torch.set_num_threads(2)
    assert torch.equal(augmented(options, hu, some, WINDOW), want)


def test_trap_12_views_differ_between_samples_epochs_seeds_and_views():
    hu = patches(1)
    views = [
        augmented(Augment(), hu, of_view(keys(3, seed=seed, epoch=epoch)[i : i + 1], number), WINDOW)
        for seed in (0, 1)
        for epoch in (0, 1)
        for i in (0, 2)
        for number in (0, 1)
    ]
    assert all(not torch.equal(a, b) for i, a in enumerate(views) for b in views[:i])


def test_one_draw_can_hold_for_all_patches():
    hu, some = patches(1).expand(3, -1, -1, -1), keys(3)
    owner, scan = torch.zeros(3, dtype=torch.long), keys(1)
    out = augmented(ALWAYS.model_copy(update={"noise_probability": 0}), hu, some, WINDOW, draws=(scan, owner))
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0], out[2])
    noisy = augmented(ALWAYS, hu, some, WINDOW, draws=(scan, owner))
    assert not torch.equal(noisy[0], noisy[1])  # one sigma, but noise of each patch's own


def test_as_many_keys_as_patches():
    with pytest.raises(ValueError, match=r"3 patches need as many keys, but there are 0: see Batch\.drawn"):
        augmented(Augment(), patches(3), keys(0), WINDOW)
    assert augmented(Augment(), patches(0), keys(0), WINDOW).shape == (0, 1, 32, 32, 32)


def test_autocast_does_not_touch_the_warp():
    hu, some = patches(1), keys(1)
    drawn = draw(Augment(), some, FRAME)
    with torch.autocast("cpu", torch.bfloat16):
        low = apply(drawn, hu, each(some), FRAME)
    plain = apply(drawn, hu, each(some), FRAME)
    assert torch.equal(low, plain)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augmented(Augment(), hu, some, WINDOW), to_window(plain, *WINDOW))


def test_patches_need_not_be_cubes():
    hu, some = patches(3, extent=(16, 32, 24)), keys(3)
    drawn = draw(Augment(), some, replace(FRAME, extent=(16, 32, 24)))
    points = drawn[2].points(torch.arange(3))
    assert points.shape == (3, 3, 16, 32, 24)
    out = augmented(Augment(), hu, some, WINDOW)
    assert out.shape == (3, 1, 16, 32, 24)
    assert out.isfinite().all()
