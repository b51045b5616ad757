import numpy as np
import pytest
import torch

from ctssl.bench import recipe, train
from ctssl.bench import store as stores
from ctssl.store.layout import StoreArrays

KEYS = ("patches_per_s", "step_only_patches_per_s", "recipe_patches_per_s", "peak_memory_mb")


def small(count):
    rng = np.random.default_rng(0)
    none = np.empty((0, 2))
    patches = rng.integers(-1000, 200, (3, 32, 32, 32))
    return [StoreArrays(patches + i, np.ones(3), rng.random((3, 3)), np.ones(3), none) for i in range(count)]


def test_each_kind_of_step_is_measured(monkeypatch):
    monkeypatch.setattr(stores, "LANDMARKS", 3)
    monkeypatch.setattr(stores, "_phantoms", small)
    values = train.bench_train("cpu", scans=4, steps=3, batch=4)
    assert all(values[key] > 0 for key in KEYS)
    assert 0 <= values["loader_wait_fraction"] < 1
    assert values["times_recipe"] == pytest.approx(
        values["patches_per_s"] / values["recipe_patches_per_s"], rel=0.01
    )


def test_the_recipes_smoothing_is_a_gaussians_integrals():
    """Of one point: the product of its taps along each axis."""
    field = torch.zeros(3, 1, 32, 32, 32)
    field[:, 0, 16, 16, 16] = 1
    got = recipe._smoothed(field, 9.0)[0, 0]
    from scipy.stats import norm

    taps = norm.cdf(np.arange(-16, 16) + 0.5, scale=9) - norm.cdf(np.arange(-16, 16) - 0.5, scale=9)
    np.testing.assert_allclose(got.numpy(), np.einsum("i,j,k->ijk", taps, taps, taps), rtol=1e-4, atol=1e-9)


def test_the_recipe_gives_windowed_views():
    torch.manual_seed(1)
    patch = torch.from_numpy(np.random.default_rng(1).integers(-1024, 240, (32, 32, 32)).astype(np.int16))
    views = [recipe.augmented(patch, -1024, 240) for _ in range(6)]
    assert all(view.shape == (1, 1, 32, 32, 32) and view.dtype == torch.float32 for view in views)
    assert all(float(view.abs().max()) < 1.6 for view in views)
    assert not torch.equal(views[0], views[1])
