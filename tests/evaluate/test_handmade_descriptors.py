"""Descriptors against histograms of numpy and fields whose gradients are known."""

import numpy as np
import pytest

from ctssl.config.baselines import BagOfFeatures, LungPatches
from ctssl.evaluate.handmade.descriptors import describe, width
from ctssl.evaluate.handmade.patches import chosen_patches

OPTIONS = BagOfFeatures(bins=32, gradient_bins=16)
HU, STEEP, ALONG = slice(0, 32), slice(32, 48), slice(48, 51)


def noise(seed=0, count=3):
    return np.random.default_rng(seed).normal(-800, 200, (count, 12, 12, 12)).astype(np.int16)


def test_each_of_the_three_parts_is_a_square_root_of_shares():
    found = describe(noise(), 2.0, OPTIONS)
    assert found.shape == (3, width(OPTIONS)) == (3, 51)
    assert found.dtype == np.float32
    for part in (HU, STEEP, ALONG):
        np.testing.assert_allclose((found[:, part] ** 2).sum(1), 1, rtol=1e-5)


def test_densities_are_the_histogram_of_numpy_over_the_window():
    patches = noise()
    for patch, row in zip(patches, describe(patches, 1.0, OPTIONS), strict=True):
        count, _ = np.histogram(patch.clip(-1024, 240), bins=32, range=(-1024, 240))
        np.testing.assert_allclose(row[HU] ** 2, count / patch.size, atol=1e-6)


def test_gradients_are_those_of_numpy_in_hu_per_mm():
    patch, spacing = noise(count=1)[0].clip(-1024, 240), 2.0
    steep = np.sqrt(sum(g**2 for g in np.gradient(patch.astype(float), spacing)))
    count, _ = np.histogram(steep.clip(1, 999.99), bins=np.geomspace(1, 1000, 17))
    found = describe(patch[None], spacing, OPTIONS)[0]
    np.testing.assert_allclose(found[STEEP] ** 2, count / patch.size, atol=2 / patch.size)


def test_a_slope_has_one_direction_and_a_known_length():
    z = np.arange(10.0)[:, None, None] * 20 - 900
    slope = np.broadcast_to(z, (10, 10, 10))
    found = describe(slope[None], 2.0, OPTIONS)[0]  # 20 HU in 2 mm
    place = int(16 * np.log(10) / np.log(1000))
    assert found[STEEP][place] == pytest.approx(1)
    np.testing.assert_allclose(found[ALONG], [1, 0, 0], atol=1e-4)


def test_energy_along_directions_is_by_hand_that_of_waves():
    t = 2 * np.pi * np.arange(16) / 16
    waves = 30 * np.cos(t)[:, None, None] + 15 * np.cos(t)[None, :, None] + 0 * t[None, None, :] - 700
    gradients = np.stack(np.gradient(waves))
    energy = (gradients**2).sum((1, 2, 3))
    found = describe(waves[None], 1.0, OPTIONS)[0, ALONG] ** 2
    np.testing.assert_allclose(found, energy / energy.sum(), atol=2e-4)
    assert found[0] == pytest.approx(0.8, abs=0.01)


def test_a_patch_without_change_is_equally_far_in_all_directions():
    found = describe(np.full((1, 6, 6, 6), -850), 1.0, OPTIONS)[0]
    np.testing.assert_allclose(found[ALONG] ** 2, 1 / 3, rtol=1e-5)
    assert found[STEEP][0] == 1


@pytest.mark.parametrize("turn", [(0, 1), (0, 2), (1, 2)])
def test_quarter_turns_and_mirrors_change_nothing(turn):
    patches = noise()
    for other in (np.rot90(patches, 1, [axis + 1 for axis in turn]), np.flip(patches, turn[0] + 1)):
        np.testing.assert_allclose(describe(other, 1.0, OPTIONS), describe(patches, 1.0, OPTIONS), atol=1e-4)


def test_what_lies_beyond_the_window_counts_as_its_end():
    bone = noise().clip(-1024, 240)
    beyond = np.where(bone == 240, 2000, bone)
    np.testing.assert_array_equal(describe(beyond, 1.0, OPTIONS), describe(bone, 1.0, OPTIONS))


def test_patches_with_enough_lung_are_chosen_or_those_with_the_most():
    valid = np.array([True, True, False, True, True, True])
    lung = np.array([0.5, 0.1, 0.9, 0.3, 0.29, 0.0])
    few = LungPatches(least_patches=2)
    assert chosen_patches(valid, lung, few).tolist() == [0, 3]
    assert chosen_patches(valid, lung, LungPatches(least_patches=3)).tolist() == [0, 3, 4]
    assert chosen_patches(valid, lung, LungPatches()).tolist() == [0, 1, 3, 4, 5]
    assert chosen_patches(np.zeros(6, bool), lung, few).tolist() == []
