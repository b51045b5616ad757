"""Against MONAI 0.3.0, the release's version: golden/augment_monai.npz, and live where it is installed."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from golden import fill_augment
from scipy.stats import norm

from ctssl.config.augment import Augment
from ctssl.train.augment import Frame, Share, apply, draw
from ctssl.train.augment.intensity import adjust_contrast
from ctssl.train.augment.warp import draw_affine, resample, rotation
from ctssl.train.random import sample_keys, uniform

FRAME = Frame((32, 32, 32), 0, 1264)
GOLDEN = dict(np.load(fill_augment.GOLDEN))
COUNT = 3000


def keys(count, seed=0):
    return sample_keys(seed, 0, 0, torch.arange(count), torch.zeros(count, dtype=torch.long))


def ours(count):
    """The same numbers as fill_augment.released, of our views."""
    views = []
    patch = torch.from_numpy(fill_augment.patch())
    for some in keys(count).split(250):
        hu = patch.expand(len(some), -1, -1, -1)
        done = apply(draw(Augment(), some, FRAME), hu, Share(torch.arange(len(some)), some), FRAME)
        views.append(fill_augment.numbers(done.numpy()))
    still = Augment(steps=("warp",), rotation_deg=0, translation_voxels=0, scale=0)
    (warp,) = draw(still, keys(count, seed=1), FRAME)
    z, y, x = fill_augment.PLACES.T
    rows = [basis[:, p] for basis, p in zip(warp.bases, (z, y, x), strict=True)]
    at = torch.einsum("gdabc,gka,gkb,gkc->gdk", warp.factors, *rows).numpy()
    return {"views": np.concatenate(views), "shifts": at - (fill_augment.PLACES.T - 15.5)}


def assert_same_deciles(values, deciles, count):
    """Shares of our values below MONAI's deciles, to 4.5 standard errors of both samples."""
    p = fill_augment.DECILES.reshape(-1, *[1] * (values.ndim - 1))
    shares = np.stack([(values < d).mean(0) for d in deciles])
    error = np.sqrt(p * (1 - p) * (1 / len(values) + 1 / count))
    assert (abs(shares - p) / error).max() < 4.5


def test_matrices_are_distributed_as_monais():
    numbers = uniform(keys(20_000), 3, 10)
    ours = draw_affine(Augment(), numbers).numpy()
    assert_same_deciles(ours, GOLDEN["affine"], int(GOLDEN["affine_count"]))


def test_displacements_and_views_are_distributed_as_monais():
    """Contrast, noise, elastic with affine, in this order: moments, extremes, texture, single voxels."""
    got = ours(COUNT)
    assert_same_deciles(got["shifts"], GOLDEN["shifts"], int(GOLDEN["count"]))
    assert_same_deciles(got["views"], GOLDEN["views"], int(GOLDEN["count"]))
    theirs, mine = GOLDEN["covariance"], np.cov(got["shifts"][:, 0].T)
    sds = np.sqrt(np.diag(theirs))
    np.testing.assert_allclose(mine / np.outer(sds, sds), theirs / np.outer(sds, sds), atol=0.2)


@pytest.mark.parametrize("i", range(3))
def test_a_warp_with_monais_own_numbers_is_monais(i):
    """Its uniform field smoothed by convolution, then our rotation, order and resampling."""
    seed, sigma, magnitude = (float(GOLDEN[k][i]) for k in ("seed", "sigma", "magnitude"))
    state = np.random.RandomState(int(seed))  # the stream that MONAI uses
    assert state.rand() < 1
    field = state.uniform(-1.0, 1.0, (3, 32, 32, 32))
    reach = int(3 * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    taps = norm.cdf((steps + 0.5) / sigma) - norm.cdf((steps - 0.5) / sigma)
    for axis in (1, 2, 3):
        field = np.apply_along_axis(lambda v: np.convolve(v, taps)[reach : reach + 32], axis, field)
    turn = rotation(torch.tensor(GOLDEN["angles"][i])[None])[0].numpy()
    grid = np.stack(np.meshgrid(*[np.arange(32) - 15.5] * 3, indexing="ij")) + field * magnitude
    moved = GOLDEN["scale"][i][:, None] * grid.reshape(3, -1) + GOLDEN["shift"][i][:, None]
    points = torch.tensor((turn @ moved).reshape(1, 3, 32, 32, 32)).float()
    got = resample(torch.from_numpy(fill_augment.patch())[None], points)[0, ::3, ::4, ::5]
    np.testing.assert_allclose(got, GOLDEN["warped"][i], atol=0.2)


def test_contrast_is_monais():
    hu = torch.from_numpy(fill_augment.patch()).expand(3, -1, -1, -1).clone()
    got = adjust_contrast(hu, torch.tensor(GOLDEN["gammas"]).float(), torch.arange(3))
    np.testing.assert_allclose(got[:, ::3, ::4, ::5], GOLDEN["contrast"], atol=0.02)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("monai") is None, reason="MONAI is not installed; golden numbers are")
@pytest.mark.filterwarnings("ignore")
def test_live_monai_agrees():
    theirs, got = fill_augment.released(600), ours(COUNT)
    for name in ("shifts", "views"):
        deciles = np.quantile(theirs[name], fill_augment.DECILES, axis=0)
        assert_same_deciles(got[name], deciles, 600)
