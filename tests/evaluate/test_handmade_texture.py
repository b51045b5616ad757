"""Texture against co-occurrences that are counted by hand."""

import sys

import numpy as np
import pytest

from ctssl.config.baselines import Texture
from ctssl.errors import ConfigError
from ctssl.evaluate.handmade import texture as module
from ctssl.evaluate.handmade.texture import NAMES, texture

LEVELS = 8
OPTIONS = Texture(grey_levels=LEVELS)


def pairs(grey, step):
    """(L, L) shares of ordered pairs of voxels that lie a step apart, both ways."""
    count = np.zeros((LEVELS, LEVELS))
    shape = grey.shape
    for place in np.ndindex(shape):
        other = tuple(p + s for p, s in zip(place, step, strict=True))
        if all(0 <= o < n for o, n in zip(other, shape, strict=True)):
            count[grey[place], grey[other]] += 1
            count[grey[other], grey[place]] += 1
    return count / count.sum()


def directions():
    steps = [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return [step for step in steps if step > (0, 0, 0)]


def by_hand(grey, distance=1):
    """Four of Haralick's features, the mean over 13 directions."""
    i, j = np.indices((LEVELS, LEVELS))
    each = []
    for step in directions():
        p = pairs(grey, [distance * part for part in step])
        entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
        each.append([(p**2).sum(), (p * (i - j) ** 2).sum(), (p / (1 + (i - j) ** 2)).sum(), entropy])
    return np.mean(each, 0)


@pytest.mark.parametrize("distance", [1, 2])
def test_features_are_those_of_pairs_counted_by_hand(distance):
    pytest.importorskip("mahotas")
    patch = np.random.default_rng(0).normal(-700, 250, (5, 6, 7))
    grey = np.clip(np.floor((patch + 1024) / (1264 / LEVELS)), 0, LEVELS - 1).astype(int)
    options = Texture(grey_levels=LEVELS, distance_voxels=distance)
    found = dict(zip(NAMES, texture(patch[None], options)[0], strict=True))
    wanted = ("angular_second_moment", "contrast", "inverse_difference_moment", "entropy")
    np.testing.assert_allclose([found[name] for name in wanted], by_hand(grey, distance), rtol=1e-6)


def test_rough_lung_has_more_contrast_than_smooth_lung():
    pytest.importorskip("mahotas")
    rng = np.random.default_rng(1)
    smooth, rough = (rng.normal(-800, sd, (1, 8, 8, 8)) for sd in (40, 250))
    contrast = NAMES.index("contrast")
    assert texture(rough, OPTIONS)[0, contrast] > 5 * texture(smooth, OPTIONS)[0, contrast]


def test_a_scan_has_mean_and_spread_over_its_patches(tmp_path):
    pytest.importorskip("mahotas")
    from evaluate.small_stores import make_store

    from ctssl.store.reader import open_store

    make_store(tmp_path / "a", "a", 5)
    store = open_store(tmp_path / "a")
    each = texture(store.patches(np.arange(5)), Texture())
    found = module.texture_of_scan(store, Texture())
    np.testing.assert_allclose(found, np.concatenate([each.mean(0), each.std(0)]), rtol=1e-5)


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mahotas", None)
    monkeypatch.setitem(sys.modules, "mahotas.features", None)
    with pytest.raises(ConfigError, match="mahotas") as caught:
        texture(np.zeros((1, 4, 4, 4)), OPTIONS)
    assert "pip install --constraint constraints.txt --editable '.[texture]'" in caught.value.advice
