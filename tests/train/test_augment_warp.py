import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from scipy.stats import norm

from ctssl.config.augment import Augment
from ctssl.train.augment import Frame, draw
from ctssl.train.augment.warp import basis, cosines, crop, products, rank, resample, smoothing, with_affine
from ctssl.train.random import sample_keys

FRAME = Frame((32, 32, 32), -1024, 240)


def patches(count, seed=0, extent=(32, 32, 32)):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(-1024, 240, (count, *extent))).float()


def keys(count, *, seed=0, epoch=0):
    return sample_keys(seed, 0, epoch, torch.arange(count), torch.full((count,), 5))


def test_smoothing_is_a_convolution_with_voxel_integrals():
    lines = np.random.default_rng(0).uniform(-1, 1, (32, 5))
    for s in (8.0, 11.7, 1.3):
        reach = int(3 * s + 0.5)
        steps = np.arange(-reach, reach + 1)
        taps = norm.cdf((steps + 0.5) / s) - norm.cdf((steps - 0.5) / s)
        expected = np.stack([np.convolve(line, taps)[reach : reach + 32] for line in lines.T], 1)
        got = smoothing(torch.tensor([s]), 32)[0].numpy() @ lines
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(("low", "high", "most"), [(8, 12, 7), (3, 4, 20), (1, 1, 32), (40, 60, 4)])
def test_few_cosines_carry_the_displacement(low, high, most):
    """The covariance of every two voxels of 3-D smoothed white noise, to 1 % of their sds."""
    count = rank(32, low, high)
    assert count <= most
    waves = cosines(32, count, torch.zeros(1, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(waves.T @ waves, np.eye(count), atol=1e-12)
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 32, (2, 2000, 3))
    one[:8] = other[:8] = np.array(np.meshgrid([0, 31], [0, 31], [0, 31])).reshape(3, 8).T
    for sigma in (low, (low + high) / 2, high):
        w = smoothing(torch.tensor([float(sigma)], dtype=torch.float64), 32)[0].numpy()
        full, kept = w @ w.T, w @ waves @ waves.T @ w.T
        exact, ours = (c[one, other].prod(1) for c in (full, kept))
        sds = (full[one, one].prod(1) * full[other, other].prod(1)) ** 0.5
        assert abs(ours - exact).max() < 0.01 * sds.max()
        assert (abs(ours - exact) / sds).max() < 0.01


def test_displacements_are_of_the_published_size():
    """sd at voxels, and correlation between them, of magnitude x smoothed U(-1, 1)."""
    options = Augment(steps=("warp",), rotation_deg=0, translation_voxels=0, scale=0)
    (warp,) = draw(options, keys(10_000), FRAME)
    places = ([16, 0, 31, 16], [16, 0, 5, 24], [16, 0, 16, 16])
    rows = [b[:, p] for b, p in zip(warp.bases, places, strict=True)]
    points = torch.einsum("gdabc,gka,gkb,gkc->gdk", warp.factors, *rows).numpy()  # (n, 3, 4)
    shifts = points - (np.array(places) - 15.5)
    covariance = np.zeros((4, 4))
    sigmas = np.linspace(8, 12, 81)
    for sigma in sigmas:
        w = smoothing(torch.tensor([sigma]), 32)[0].numpy()
        c = w @ w.T
        covariance += np.prod([c[np.ix_(p, p)] for p in places], axis=0) / len(sigmas)
    covariance *= 1264**2 / 3 / 3  # E of magnitude^2, variance of U(-1, 1)
    sds = np.sqrt(np.diag(covariance))
    for axis in range(3):
        got = np.cov(shifts[:, axis].T)
        np.testing.assert_allclose(np.sqrt(np.diag(got)), sds, rtol=0.05)
        np.testing.assert_allclose(got / np.outer(sds, sds), covariance / np.outer(sds, sds), atol=0.08)
        assert abs(shifts[:, axis].mean(0) / sds).max() < 5 / 10_000**0.5
    assert abs(np.corrcoef(shifts[:, 0, 0], shifts[:, 2, 0])[0, 1]) < 0.06


def test_points_are_the_affine_map_of_displaced_voxels():
    rng = np.random.default_rng(3)
    turn = Rotation.from_euler("XYZ", rng.uniform(-10, 10, 3), degrees=True).as_matrix()
    affine = np.concatenate([turn @ np.diag([0.9, 1.05, 1.1]), [[3], [-7], [11]]], 1)
    factors = rng.normal(size=(3, 4, 3, 2)) * 50
    extent, sigma = (20, 24, 32), torch.tensor([9.0])
    bases = tuple(basis(sigma, e, r) for e, r in zip(extent, (4, 3, 2), strict=True))
    small, moved = torch.tensor(factors)[None].float(), torch.tensor(affine)[None].float()
    got = products(with_affine(small, moved), bases)[0].numpy()
    smooth = [
        smoothing(sigma, e)[0].numpy() @ cosines(e, r, sigma).numpy()
        for e, r in zip(extent, (4, 3, 2), strict=True)
    ]
    displacement = np.einsum("dabc,za,yb,xc->dzyx", factors, *smooth)
    grid = np.stack(np.meshgrid(*[np.arange(e) - (e - 1) / 2 for e in extent], indexing="ij"))
    expected = np.einsum("ij,jzyx->izyx", affine[:, :3], grid + displacement) + affine[:, 3, None, None, None]
    np.testing.assert_allclose(got, expected, atol=5e-5)


@pytest.mark.parametrize("extent", [(32, 32, 32), (7, 12, 5), (2, 3, 2)])
def test_resampling_equals_scipys(extent):
    hu = patches(3, extent=extent)
    half = (np.array(extent) - 1) / 2
    rng = np.random.default_rng(1)
    points = rng.uniform(-1.6, 1.6, (3, 3, 6, 5, 4)) * half[:, None, None, None]
    points[0, :, 0, 0] = np.array([-half, half, -half * 9, half * 9]).T  # corners, and far away
    got = resample(hu, torch.from_numpy(points).float()).numpy()
    for i in range(3):
        index = points[i].reshape(3, -1) + half[:, None]
        expected = map_coordinates(hu[i].numpy().astype(float), index, order=1, mode="nearest")
        np.testing.assert_allclose(got[i].ravel(), expected, atol=0.2)  # of 1264 HU between neighbours
    with pytest.raises(ValueError, match="at least 2 voxels"):
        resample(hu[:, :1], torch.from_numpy(points).float())


def test_translation_moves_along_the_named_axes():
    """A shift by whole voxels along the first axis moves z, along the last x."""
    hu = patches(1)
    bases = tuple(basis(torch.ones(1), 32, 0) for _ in range(3))
    for axis in range(3):
        affine = torch.eye(3, 4)[None]
        affine[0, axis, 3] = 5
        got = resample(hu, products(with_affine(torch.zeros(1, 3, 0, 0, 0), affine), bases))
        expected = np.take(hu.numpy(), np.minimum(np.arange(32) + 5, 31), axis=axis + 1)
        np.testing.assert_allclose(got.numpy(), expected, atol=0.2)


def test_crops_are_boxes_resampled_end_to_end():
    volumes = patches(2, extent=(20, 30, 40))
    corners = torch.tensor([[[0, 0, 0], [3, 5, 7]], [[4, 14, 8], [0, 0, 0]]])
    sizes = torch.tensor([[[20, 30, 40], [8, 12, 16]], [[16, 16, 32], [8, 12, 16]]])
    out = crop(volumes, corners, sizes, (8, 12, 16))
    assert out.shape == (2, 2, 8, 12, 16)
    np.testing.assert_allclose(out[0, 1], volumes[0, 3:11, 5:17, 7:23], atol=0.3)
    for b in range(2):
        for k in range(2):
            lines = [
                np.linspace(c, c + s - 1, e)
                for c, s, e in zip(corners[b, k].numpy(), sizes[b, k].numpy(), (8, 12, 16), strict=True)
            ]
            points = np.stack(np.meshgrid(*lines, indexing="ij"))
            expected = map_coordinates(volumes[b].numpy().astype(float), points, order=1)
            np.testing.assert_allclose(out[b, k], expected, atol=0.3)
