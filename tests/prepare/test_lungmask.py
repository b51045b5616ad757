"""The lungmask package, with random weights: its true ones are not for tests."""

from urllib.error import URLError

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from prepare.chest import grid_of, scan

from ctssl.errors import WeightsError
from ctssl.prepare.images import write_array
from ctssl.prepare.mask import lungmask_mask
from ctssl.prepare.volume import read_image

SLICES = 8


@pytest.fixture
def image(tmp_path):
    """Eight slices through the lungs, stored along R, A, S."""
    made = scan()
    low, high = np.array([30, 0, 0]), np.array([30 + SLICES, *made.hu.shape[1:]])
    grid = grid_of(made).crop(low, high)
    write_array(tmp_path / "scan.nii", made.hu[30 : 30 + SLICES], grid)
    return read_image(tmp_path / "scan.nii", 10**9), grid


def says_both_ways_out(error: WeightsError) -> bool:
    return "mask.weights" in error.advice and "mask.method: threshold" in error.advice


def test_a_missing_weights_file_names_both_ways_out(image, tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.pth") as fault:
        lungmask_mask(*image, "R231", tmp_path / "absent.pth", "cpu")
    assert says_both_ways_out(fault.value)


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 half an archive"])
def test_a_damaged_weights_file_names_both_ways_out(image, tmp_path, content):
    (tmp_path / "damaged.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"damaged\.pth") as fault:
        lungmask_mask(*image, "R231", tmp_path / "damaged.pth", "cpu")
    assert says_both_ways_out(fault.value)


def test_weights_of_another_network_name_both_ways_out(image, tmp_path):
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError) as fault:
        lungmask_mask(*image, "R231", tmp_path / "other.pth", "cpu")
    assert says_both_ways_out(fault.value)


def test_an_unreachable_download_names_both_ways_out(image, monkeypatch):
    def unreachable(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(WeightsError, match=r"their download.*no route to host") as fault:
        lungmask_mask(*image, "R231", None, "cpu")
    assert says_both_ways_out(fault.value)


def test_the_package_runs_with_weights_from_a_file(image, tmp_path):
    """Its own network, untrained; the last layer says left lung (2) whatever it sees."""
    from lungmask.resunet import UNet

    network = UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    state = network.state_dict()
    state["last.weight"].zero_()
    state["last.bias"].copy_(torch.tensor([0.0, 0.0, 1.0]))
    torch.save(state, tmp_path / "constant.pth")
    picture, grid = image
    two = grid.crop(np.zeros(3), np.array([2, *grid.shape[1:]]))
    mask = lungmask_mask(picture[:, :, :2], two, "R231", tmp_path / "constant.pth", "cpu")
    assert mask.dtype == np.uint8
    assert mask.shape == two.shape
    assert (mask[scan().lungs[30:32] > 0] == 2).all()
    assert set(np.unique(mask)) == {0, 2}  # the package looks at the body's box only


def test_labels_follow_the_image_when_the_grid_differs(image, tmp_path, monkeypatch):
    from lungmask import LMInferer

    picture, grid = image
    turned = sitk.DICOMOrient(picture, "RAS")
    monkeypatch.setattr(LMInferer, "__init__", lambda *_, **__: None)
    sides = np.zeros(sitk.GetArrayFromImage(turned).shape, np.uint8)
    sides[:, :, : sides.shape[2] // 2] = 2  # along R, low indices lie on the left
    sides[:, :, sides.shape[2] // 2 :] = 1
    monkeypatch.setattr(LMInferer, "apply", lambda *_: sides)
    mask = lungmask_mask(turned, grid, "R231", None, "cpu")
    middle = mask.shape[2] // 2
    assert (mask[:, :, : middle - 1] == 1).all()  # right: lower x
    assert (mask[:, :, middle + 1 :] == 2).all()
