"""Features of patches that a user gives: for every patch method, and what is refused."""

import numpy as np
import pytest
import torch
from share import models
from train import synthetic

from ctssl.config.methods import OPTIONS
from ctssl.errors import WeightsError
from ctssl.methods import METHODS
from ctssl.share.model import SharedModel, load_model
from ctssl.train.batches import Cohort, read_batch, scan_sample

RNG = np.random.default_rng(5)
PATCHES = RNG.normal(-800, 150, (3, 32, 32, 32)).clip(-1500, 900).astype(np.int16)
PLACES = np.array([[0.1, 0.5, 0.9], [0.0, 1.0, 0.3], [0.7, 0.2, 0.4]])


def of_patches() -> list[str]:
    return [m for m in METHODS if not OPTIONS[m].boxes and not OPTIONS[m].supervised]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> SharedModel:
    folder = tmp_path_factory.mktemp("model")
    models.save_atlas(folder / "atlas", images=False)
    return load_model(models.save(folder))


def test_every_method_that_learns_from_single_patches_embeds_them():
    assert {"context-aware", "untrained", "drasclr", "autoencoder"} <= set(of_patches())


@pytest.mark.parametrize("method", of_patches())
def test_patches_of_each_method_are_those_that_a_scan_is_pooled_from(method, tmp_path):
    """Each for itself gives what all together give, in any order; of drasclr their mean is the scan's."""
    model = load_model(models.save(tmp_path, method))
    found = model.embed_patches(PATCHES, PLACES)
    assert found.shape == (3, len(found[0]))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    for order in ([2, 0, 1], [1], [0, 2]):
        again = model.embed_patches(PATCHES[order], PLACES[order])
        np.testing.assert_allclose(again, found[order], rtol=1e-3, atol=2e-5)
    assert np.abs(np.diff(found, axis=0)).max() > 1e-4, "patches differ"
    moved = model.embed_patches(PATCHES, PLACES[::-1].copy())
    assert (np.abs(moved - found).max() > 1e-4) == (method == "drasclr"), "only drasclr looks at the place"


@pytest.mark.parametrize("method", ["drasclr", "autoencoder"])
def test_the_mean_over_a_scans_patches_is_its_vector(method, tmp_path):
    model = load_model(models.save(tmp_path, method))
    store = synthetic.write_scan(tmp_path / "stores", 1, synthetic.atlas(), [1, 1, 0, 1, 1, 1])
    cohort = Cohort(store.valid[None], np.zeros(1, np.int64))
    batch = read_batch([store], cohort, scan_sample(cohort, np.zeros(1, np.int64)))
    places = synthetic.atlas().coordinates()[store.valid]
    found = model.embed_patches(store.patches(np.flatnonzero(store.valid)), places)
    np.testing.assert_allclose(found.mean(0), model.embedder.embed(batch)[0], atol=2e-6)


def test_features_are_the_trunk_of_the_window_by_hand(model):
    """Window, convolution, batch norm and ELU written out in float64."""
    state = {name: values.double() for name, values in model.embedder.state_dict().items()}
    x = torch.from_numpy((np.clip(PATCHES.astype(float), -1024, 240) + 1024) / 632 - 1)[:, None]
    convs = [name.removesuffix(".weight") for name in state if state[name].ndim == 5]
    norms = [name.removesuffix(".running_mean") for name in state if name.endswith("running_mean")]
    strides = [1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 2, 1, 2]
    for conv, norm, stride in zip(convs, norms[:13], strides, strict=True):
        x = torch.nn.functional.conv3d(
            x, state[f"{conv}.weight"], state[f"{conv}.bias"], stride=stride, padding=1
        )
        mean, var, weight, bias = (
            state[f"{norm}.{key}"][:, None, None, None]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        x = torch.nn.functional.elu((x - mean) / (var + 1e-5).sqrt() * weight + bias)
    expected = x.flatten(1).numpy()
    np.testing.assert_allclose(model.embed_patches(PATCHES, PLACES), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        PATCHES.astype(">i2"),
        PATCHES.astype(np.float64),
        PATCHES.astype(np.float32)[::-1][::-1],
        np.asfortranarray(PATCHES),
        PATCHES.tolist(),
        torch.from_numpy(PATCHES),
        torch.from_numpy(PATCHES).double().requires_grad_(),
        torch.from_numpy(PATCHES).permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1),
    ],
    ids=["big endian", "double", "flipped view", "fortran", "lists", "tensor", "with gradient", "strided"],
)
def test_numbers_of_any_kind_give_the_same(model, values):
    found = model.embed_patches(values, PLACES)
    assert isinstance(found, torch.Tensor) == isinstance(values, torch.Tensor)
    np.testing.assert_allclose(np.asarray(found), model.embed_patches(PATCHES, PLACES), atol=1e-6)


def test_what_lies_outside_the_window_is_at_its_ends(model):
    far = np.where(PATCHES < -900, -30000, np.where(PATCHES > 0, 30000, PATCHES))
    ends = np.where(PATCHES < -900, -1024, np.where(PATCHES > 0, 240, PATCHES))
    np.testing.assert_array_equal(model.embed_patches(far, PLACES), model.embed_patches(ends, PLACES))


@pytest.mark.parametrize("method", of_patches())
def test_no_patches_give_no_features(method, tmp_path):
    model = load_model(models.save(tmp_path, method))
    width = model.embed_patches(PATCHES[:1], PLACES[:1]).shape[1]
    for patches in (PATCHES[:0], torch.from_numpy(PATCHES[:0])):
        found = model.embed_patches(patches, PLACES[:0])
        assert tuple(found.shape) == (0, width)
        assert found.dtype in (np.float32, torch.float32)


def test_the_callers_settings_of_torch_stay(model):
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        model.embed_patches(PATCHES, PLACES)
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.is_grad_enabled()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


NAN = PATCHES.astype(float).copy()
NAN[1, 2, 3, 4] = np.nan
WINDOWED = (PATCHES.clip(-1024, 240) + 1024) / 632 - 1


@pytest.mark.parametrize(
    ("patches", "places", "kind", "words"),
    [
        (PATCHES[0], PLACES[:1], ValueError, r"\(32, 32, 32\); one patch is patch\[None\]"),
        (PATCHES[:, None], PLACES, ValueError, r"shape \(B, 32, 32, 32\), but this is \(3, 1, 32, 32, 32\)"),
        (PATCHES[:, :16], PLACES, ValueError, r"\(3, 16, 32, 32\)"),
        (np.empty(0), PLACES, ValueError, "which is empty"),
        (NAN, PLACES, ValueError, "1 of 3 patches hold NaN or infinity, patch 1 is the first; .* is air"),
        (NAN.astype(np.float32) * np.inf, PLACES, ValueError, "3 of 3 patches hold NaN"),
        (WINDOWED, PLACES, ValueError, "hold values from -1 to .* which are no HU; give HU as the scanner"),
        ((WINDOWED + 1) / 2, PLACES, ValueError, "which are no HU"),
        (torch.from_numpy(WINDOWED).half(), PLACES, ValueError, "which are no HU"),
        (PATCHES > -800, PLACES, TypeError, "patches are an array or a tensor of numbers, .* of bool"),
        (PATCHES.astype(complex), PLACES, TypeError, "complex"),
        (torch.ones(1, 32, 32, 32, dtype=torch.bool), PLACES, TypeError, "torch.bool"),
        ("patches.npy", PLACES, TypeError, "but this is str"),
        (None, PLACES, TypeError, "NoneType"),
        (PATCHES, PLACES[:2], ValueError, r"B = 3 as the patches, but this is \(2, 3\)"),
        (PATCHES, PLACES[0], ValueError, r"but this is \(3,\)"),
        (PATCHES, PLACES * 2 - 1, ValueError, "coords lie from 0 to 1, but these from -1 to 1"),
        (PATCHES, PLACES * 300, ValueError, "from 0 to 300|from 0 to 3e"),
        (PATCHES, PLACES * np.nan, ValueError, "coords hold NaN"),
        (PATCHES, None, TypeError, "coords are an array"),
    ],
)
def test_what_is_no_patch_or_place_is_refused_in_words(model, patches, places, kind, words):
    with pytest.raises(kind, match=words):
        model.embed_patches(patches, places)


def test_a_batch_of_water_is_hu(model):
    """All zero, or whole numbers from -1 to 1: HU they can be."""
    water = np.zeros((1, 32, 32, 32), np.int16)
    assert np.isfinite(model.embed_patches(water, PLACES[:1])).all()


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(of_patches())))
def test_a_method_of_whole_scans_says_so(method, model):
    class Whole:
        cut = None

    whole = SharedModel(model.path, model.card | {"method": method}, Whole(), None, model.device)
    assert whole.boxes
    with pytest.raises(WeightsError, match=f"{method} .* embeds whole scans, not patches"):
        whole.embed_patches(PATCHES, PLACES)


def test_coordinates_are_those_of_the_weights_or_of_the_atlas(model, tmp_path):
    np.testing.assert_allclose(model.coordinates, synthetic.atlas().coordinates())
    own = load_model(models.save(tmp_path, "drasclr"))
    own.embedder.coordinates[0] = 0.25
    np.testing.assert_allclose(own.coordinates[0], 0.25)
    assert own.atlas_folder is None
