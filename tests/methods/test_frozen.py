"""Published networks as methods: what they are shown of a scan, and what they make of it."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from golden import fill
from pydantic import ValidationError
from train import synthetic

from ctssl.config.methods import OPTIONS
from ctssl.errors import WeightsError
from ctssl.evaluate import features
from ctssl.evaluate.features import embed_scan
from ctssl.methods import load_method
from ctssl.methods.windowed import window_features
from ctssl.store.boxes import box_of
from ctssl.train import weights
from ctssl.train.batches import Batch
from ctssl.train.cuts import embedded_cuts

SMALL = {
    "medicalnet": {"depth": 10, "volume_voxels": (16, 24, 32)},
    "pcrl": {"crop_voxels": (16, 24, 24)},
    "voco": {"trunk": "swin", "crop_voxels": (64, 64, 64)},
}
WIDTHS = {"medicalnet": 512, "pcrl": 512, "voco": 1152}

no_monai = pytest.mark.skipif(
    not (find_spec("monai") and find_spec("einops")), reason="the extra voco (monai, einops) is not installed"
)
every = pytest.mark.parametrize("name", ["medicalnet", "pcrl", pytest.param("voco", marks=no_monai)])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def embedder(name, **changes):
    return load_method(name).embedder(OPTIONS[name].model_validate(SMALL[name] | changes)).eval()


def box(shape=(40, 48, 56), value=None):
    """Noise in HU with two lungs."""
    rng = np.random.default_rng(5)
    hu = (
        rng.integers(-1024, 400, shape).astype(np.int16) if value is None else np.full(shape, value, np.int16)
    )
    mask = np.zeros(shape, np.uint8)
    mask[8:36, 8:40, 4:24], mask[8:36, 8:40, 30:52] = 1, 2
    card = {"scan": "a", "atlas": "b", "spacing_mm": 1.0}
    return box_of(hu, mask, card)


@every
def test_features_of_a_scan(name):
    network = embedder(name)
    batch = embedded_cuts(box(), network.cut)
    found = network.embed(batch)
    assert found.shape == (1, WIDTHS[name])
    assert torch.isfinite(found).all()
    assert torch.equal(found, network.embed(batch))
    again = embed_scan(network.train(), None, torch.device("cpu"), box())
    np.testing.assert_array_equal(found[0].numpy(), again)


def test_published_weights_serve_scans_of_any_atlas_at_their_spacing(tmp_path):
    network = embedder("medicalnet")
    card = {"method": "medicalnet", "options": network.options.model_dump(mode="json"), "landmarks": 0}
    card |= {"atlas": None, "spacing_mm": 1.0}
    weights.save(tmp_path / "model", network, card)
    people = synthetic.cohort(tmp_path / "stores")
    boxes = {store.scan: box() for store in people.stores[:1]}

    def extract(atlas):
        features.extract(
            *(tmp_path / "model/model.safetensors", atlas, people.stores, people.subjects),
            **{"cache": tmp_path / "cache", "out": tmp_path / "features.parquet", "device": "cpu"},
            **{"threads": 1, "boxes": lambda: boxes},
        )
        return pd.read_parquet(tmp_path / "features.parquet")

    table = extract(people.atlas)
    expected = network.embed(embedded_cuts(box(), network.cut))[0].numpy()
    np.testing.assert_allclose(table.filter(regex=r"f\d+").to_numpy(), expected[None], rtol=1e-5, atol=1e-6)
    with pytest.raises(WeightsError, match=r"spacing_mm 1\.0, but this atlas has 2"):
        extract(replace(people.atlas, spacing_mm=2.0))


@every
@pytest.mark.parametrize("value", [-1024, -3000, 0, 3071, 32767])
def test_scans_without_any_contrast_have_features(name, value):
    network = embedder(name)
    assert torch.isfinite(network.embed(embedded_cuts(box(value=value), network.cut))).all()


def test_medicalnet_sees_the_body_with_mean_0_and_deviation_1():
    network = embedder("medicalnet")
    hu = np.random.default_rng(3).normal(-300, 500, (2, 6, 7, 8)).clip(-1100, 3000).astype(np.float32)
    hu[:, 0], hu[1] = -1024, hu[1] / 4
    found = network.normalised(torch.from_numpy(hu)).numpy()
    for volume, seen in zip(hu, found, strict=True):
        shifted = volume.astype(float).clip(-1024, 3071) + 1024
        body = shifted > 0
        expected = np.where(body, (shifted - shifted[body].mean()) / shifted[body].std(), 0)
        np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-4)


def test_trap_16_hu_above_0_are_not_the_body():
    """Lung and fat lie below 0 HU: of a body of -100 HU nothing would be left."""
    network = embedder("medicalnet")
    hu = torch.full((1, 4, 4, 4), -100.0)
    hu[0, 0] = -900
    assert network.normalised(hu).std() > 0.5


def test_windows_are_pooled_scan_by_scan_and_shown_as_x_y_z():
    shown = []

    def network(x):
        shown.append(x)
        return x.flatten(1)[:, :5]

    hu = torch.randint(-1200, 1200, (5, 8, 16, 24)).to(torch.int16)
    found = window_features(hu, (2, 3), (-1000, 1000), network).numpy()
    unit = (hu.numpy().astype(float).clip(-1000, 1000) + 1000) / 2000
    assert shown[0].shape[1:] == (1, 24, 16, 8)
    seen = unit.transpose(0, 3, 2, 1)
    np.testing.assert_allclose(torch.cat(shown)[:, 0].numpy(), seen, rtol=1e-6)
    flat = seen.reshape(5, -1)[:, :5]
    np.testing.assert_allclose(found, [flat[:2].mean(0), flat[2:].mean(0)], rtol=1e-5)


@torch.no_grad()
def test_models_genesis_can_be_shown_x_y_z():
    released = embedder_of_genesis("xyz")
    ours = embedder_of_genesis("zyx")
    ours.load_state_dict(released.state_dict())
    hu = (fill.box(1, 16, 24, 32)[:, 0] * 1000).to(torch.int16)
    torch.testing.assert_close(released.to_unit(hu), ours.to_unit(hu.permute(0, 3, 2, 1)))
    one = {"patches": hu, "counts": (1,)}
    assert not torch.allclose(released.embed(batch(**one)), ours.embed(batch(**one)), atol=1e-4)


def embedder_of_genesis(axes):
    options = OPTIONS["models-genesis"](axes=axes, crop_voxels=(16, 32, 32))
    return load_method("models-genesis").embedder(options).eval()


def batch(patches, counts) -> Batch:
    nothing = torch.empty(0, dtype=torch.long)
    numbers = {"landmarks": nothing, "random": nothing, "subjects": nothing, "scan_random": nothing}
    return Batch(patches=patches, counts=counts, edges=nothing, groups=(1,), landmark=None, **numbers)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("medicalnet", {"volume_voxels": (8, 448, 448)}),
        ("medicalnet", {"volume_voxels": (56, 448, 4480)}),
        ("medicalnet", {"depth": 101}),
        ("pcrl", {"crop_voxels": (32, 64, 60)}),
        ("voco", {"trunk": "swin", "crop_voxels": (64, 64, 48)}),
        ("voco", {"trunk": "swin", "crop_voxels": (32, 32, 32)}),
        ("voco", {"feature_size": 1 << 20}),
        ("pcrl", {"window_step": 0}),
    ],
)
def test_options_that_no_network_has_are_refused(name, options):
    with pytest.raises(ValidationError):
        OPTIONS[name].model_validate(options)
