from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from scipy.stats import norm

from ctssl.config.methods import Augment
from ctssl.train.augment import (
    add_noise,
    adjust_contrast,
    apply,
    draw,
    resample,
    sampling_points,
    smooth,
    to_window,
)

STILL = Augment(
    gamma_probability=0,
    noise_probability=0,
    rotation_deg=0,
    translation_voxels=0,
    scale=0,
    elastic_magnitude=0,
)


def patches(count, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(-1024, 240, (count, 32, 32, 32))).float()


def rng(seed=0):
    return np.random.default_rng(seed)


def test_draws_have_the_published_distributions():
    drawn = draw(Augment(), 20_000, rng())
    gamma, noise = drawn.gamma[drawn.gamma != 1], drawn.noise_hu[drawn.noise_hu != 0]
    assert len(gamma) / 20_000 == pytest.approx(0.25, abs=0.015)
    assert len(noise) / 20_000 == pytest.approx(0.25, abs=0.015)
    bounds = (
        (gamma, 0.5, 4.5),
        (noise, 0, 50),
        (drawn.elastic_sigma, 8, 12),
        (drawn.elastic_magnitude, 0, 1264),
    )
    for values, low, high in bounds:
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, rel=0.02)


def test_affine_is_rotation_of_translated_scaled_voxels():
    """R * T * S * x with scipy's rotation about the first, then second, then third axis (extrinsic ZYX)."""
    options = Augment()
    drawn = draw(options, 50, rng(3))
    twin = rng(3)
    for _ in range(2):  # contrast and noise come first
        twin.random(50), twin.uniform(size=50)
    angles = twin.uniform(-10, 10, (50, 3))
    shift, scale = twin.uniform(-12, 12, (50, 3)), 1 + twin.uniform(-0.1, 0.1, (50, 3))
    for matrix, a, t, s in zip(drawn.affine, angles, shift, scale, strict=True):
        turn = Rotation.from_euler("XYZ", a, degrees=True).as_matrix()
        np.testing.assert_allclose(matrix[:, :3], turn @ np.diag(s), atol=1e-12)
        np.testing.assert_allclose(matrix[:, 3], turn @ t, atol=1e-12)


def test_contrast_is_the_published_formula_over_all_patches_of_a_draw():
    hu, gamma = patches(4), torch.tensor([2.0, 1.0, 0.5])
    owner = torch.tensor([0, 1, 2, 2])
    out = adjust_contrast(hu, gamma, owner).numpy()
    for mine, power in (([0], 2.0), ([1], 1.0), ([2, 3], 0.5)):
        x = hu[mine].numpy().astype(float)
        span = x.max() - x.min()
        expected = ((x - x.min()) / (span + 1e-7)) ** power * span + x.min()
        np.testing.assert_allclose(out[mine], expected, atol=0.05)
    flat = torch.full((1, 32, 32, 32), -1024.0)
    assert torch.equal(adjust_contrast(flat, torch.tensor([3.0]), torch.zeros(1, dtype=torch.long)), flat)


def test_noise_has_its_sigma_and_is_independent():
    hu = torch.zeros(3, 32, 32, 32)
    out = add_noise(hu, torch.tensor([30.0, 0.0, 50.0]), torch.Generator().manual_seed(0))
    assert out[0].std().item() == pytest.approx(30, rel=0.02)
    assert out[2].std().item() == pytest.approx(50, rel=0.02)
    assert not out[1].any()
    assert abs(np.corrcoef(out[0].flatten(), out[2].flatten())[0, 1]) < 0.02


def test_smoothing_is_a_convolution_with_voxel_integrals():
    field, sigma = torch.rand(2, 3, 32, 32, 32) * 2 - 1, torch.tensor([8.0, 11.7])
    got = smooth(field, sigma).numpy()
    for i, s in enumerate((8.0, 11.7)):
        reach = int(3 * s + 0.5)
        steps = np.arange(-reach, reach + 1)
        taps = norm.cdf((steps + 0.5) / s) - norm.cdf((steps - 0.5) / s)
        expected = field[i].numpy().astype(float)
        for axis in (1, 2, 3):
            expected = np.apply_along_axis(
                lambda v, taps=taps, reach=reach: np.convolve(v, taps)[reach : reach + 32], axis, expected
            )
        np.testing.assert_allclose(got[i], expected, atol=1e-5)


def test_displacement_is_of_the_published_size():
    """In the middle its sd is 0.0027 of the magnitude at sigma 10 (U(-1, 1) has variance 1/3)."""
    impulse = torch.zeros(1, 3, 32, 32, 32)
    impulse[:, :, 16, 16, 16] = 1
    weights = smooth(impulse, torch.tensor([10.0]))[0, 0]  # of all voxels in the middle, by symmetry
    assert (weights.square().sum() / 3).sqrt().item() == pytest.approx(0.0027, rel=0.05)


def test_warp_equals_scipys():
    hu = patches(2)
    drawn = draw(Augment(), 2, rng(4))
    displacement = 3 * smooth(torch.randn(2, 3, 32, 32, 32), torch.tensor([3.0, 4.0])) * 10
    affine = torch.from_numpy(drawn.affine).float()
    got = resample(hu, sampling_points(affine, displacement)).numpy()
    grid = np.stack(np.meshgrid(*[np.arange(32) - 15.5] * 3, indexing="ij")).reshape(3, -1)
    for i in range(2):
        moved = grid + displacement[i].numpy().reshape(3, -1)
        points = drawn.affine[i, :, :3] @ moved + drawn.affine[i, :, 3:] + 15.5
        expected = map_coordinates(hu[i].numpy().astype(float), points, order=1, mode="nearest")
        np.testing.assert_allclose(got[i].ravel(), expected, atol=0.2)  # of 1264 HU, in float32


def test_translation_moves_along_the_named_axes():
    """A shift by whole voxels along the first axis moves z, along the last x."""
    hu = patches(1)
    for axis in range(3):
        affine = torch.eye(3, 4)[None]
        affine[0, axis, 3] = 5
        got = resample(hu, sampling_points(affine, torch.zeros(1, 3, 32, 32, 32)))
        expected = np.take(hu.numpy(), np.minimum(np.arange(32) + 5, 31), axis=axis + 1)
        np.testing.assert_allclose(got.numpy(), expected, atol=0.05)


def test_order_is_contrast_noise_warp():
    hu, owner = patches(2), torch.arange(2)
    drawn = draw(Augment(gamma_probability=1, noise_probability=1), 2, rng(6))
    generator = torch.Generator().manual_seed(drawn.seed)
    field = torch.rand(2, 3, 32, 32, 32, generator=generator) * 2 - 1
    factor = torch.from_numpy(drawn.elastic_magnitude).float().view(2, 1, 1, 1, 1)
    displacement = smooth(field, torch.from_numpy(drawn.elastic_sigma).float()) * factor
    step = adjust_contrast(hu, torch.from_numpy(drawn.gamma).float(), owner)
    step = add_noise(step, torch.from_numpy(drawn.noise_hu).float(), generator)
    step = resample(step, sampling_points(torch.from_numpy(drawn.affine).float(), displacement))
    assert torch.equal(apply(drawn, hu, owner), step)


def test_still_options_leave_the_patch_and_the_window_is_the_published_one():
    hu = patches(2)
    same = apply(draw(STILL, 2, rng()), hu, torch.arange(2))
    np.testing.assert_allclose(same.numpy(), hu.numpy(), atol=0.05)
    windowed = to_window(hu, -1024, 240)
    assert windowed.shape == (2, 1, 32, 32, 32)
    np.testing.assert_allclose(windowed[:, 0].numpy(), (hu.numpy() + 1024) / 632 - 1, atol=1e-6)


def test_one_draw_can_hold_for_all_patches():
    hu = patches(1).expand(3, -1, -1, -1)
    shared = draw(Augment(noise_probability=0), 1, rng(1))
    out = apply(shared, hu, torch.zeros(3, dtype=torch.long))
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0], out[2])
    noisy = apply(replace(shared, noise_hu=np.array([20.0])), hu, torch.zeros(3, dtype=torch.long))
    assert not torch.equal(noisy[0], noisy[1])


def test_trap_12_streams_follow_the_seed_and_never_repeat():
    hu, owner = patches(1), torch.zeros(1, dtype=torch.long)

    def view(*seed):
        return apply(draw(Augment(), 1, np.random.default_rng(list(seed))), hu, owner)

    assert torch.equal(view(0, 4), view(0, 4))
    views = [view(seed, step) for seed in (0, 1) for step in range(3)]
    assert all(not torch.equal(a, b) for i, a in enumerate(views) for b in views[:i])


def test_autocast_does_not_touch_the_warp():
    hu, owner = patches(1), torch.zeros(1, dtype=torch.long)
    drawn = draw(Augment(), 1, rng(2))
    with torch.autocast("cpu", torch.bfloat16):
        low = apply(drawn, hu, owner)
    assert torch.equal(low, apply(drawn, hu, owner))
