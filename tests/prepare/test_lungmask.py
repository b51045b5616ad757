"""The lungmask package's networks, with random weights: their true ones are not for tests."""

import pickle
import warnings
from urllib.error import URLError

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from prepare.chest import AXES, grid_of, scan, turned

from ctssl.errors import ConfigError, WeightsError
from ctssl.prepare import lungmask
from ctssl.prepare.lungmask import fused, load_network, lungmask_labels

RELEASED = {
    "R231": "unet_r231-d5d2fc3d.pth",
    "LTRCLobes": "unet_ltrclobes-3a07043d.pth",
    "R231CovidWeb": "unet_r231covid-0de78a7e.pth",
}
CLASSES = {"R231": 3, "LTRCLobes": 6, "R231CovidWeb": 3}


def slices(count: int = 2) -> np.ndarray:
    return scan().hu[30 : 30 + count]


def unet(classes: int, seed: int = 0) -> torch.nn.Module:
    """The package's own network, untrained; its classes are bands of one feature, each a like share."""
    from lungmask.resunet import UNet
    from lungmask.utils import preprocess

    torch.manual_seed(seed)
    network = UNet(
        n_classes=classes, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False
    )
    network.eval()
    seen, _ = preprocess(slices(1), resolution=[256, 256])
    features = []
    handle = network.last.register_forward_pre_hook(lambda _, given: features.append(given[0][0]))
    with torch.no_grad():
        network(torch.tensor((seen.clip(-1024, 600) + 1024.0) / 1624.0, dtype=torch.float32)[:, None])
        handle.remove()
        one = features[0].std((1, 2)).argmax()
        edges = features[0][one].flatten().quantile(torch.linspace(0, 1, classes + 1)[:-1])
        edges[0] = 0
        network.last.weight.zero_()
        network.last.weight[:, one, 0, 0] = torch.arange(classes).float()
        network.last.bias.copy_(-edges.cumsum(0))  # class c wins between its edge and the next
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The released files, by name."""
    where = tmp_path_factory.mktemp("weights")
    lungs = unet(CLASSES["R231"], 0)
    torch.save(lungs.state_dict(), where / RELEASED["R231"])
    lungs.last.bias.data += 1  # the same labels, another file
    torch.save(lungs.state_dict(), where / RELEASED["R231CovidWeb"])
    torch.save(unet(CLASSES["LTRCLobes"], 1).state_dict(), where / RELEASED["LTRCLobes"])
    return where


def image_of(hu: np.ndarray, axes: str = "LPS") -> sitk.Image:
    values, grid = turned(hu, grid_of(scan()).crop(np.zeros(3), np.array(hu.shape)), axes)
    image = sitk.GetImageFromArray(values)
    image.SetOrigin(grid.origin_mm)
    image.SetSpacing((grid.spacing_mm,) * 3)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


class Sides(torch.nn.Module):
    """Takes everything dark for lung, right (1) toward lower columns: as the true network does."""

    def forward(self, batch):
        right = torch.arange(batch.shape[-1]) < batch.shape[-1] / 2
        dark = (batch[:, 0] < 0.35).float()  # below about -450 HU
        return torch.stack([1 - dark, dark * right, dark * ~right], 1)


def says_both_ways_out(error: WeightsError) -> bool:
    return "mask.weights" in error.advice and "mask.method: threshold" in error.advice


@pytest.mark.parametrize("model", ["R231", "LTRCLobes"])
def test_labels_are_those_of_the_package(model, folder, monkeypatch):
    """The package's own inferer on the same weights, its loader apart."""
    import lungmask.mask as package

    hu = slices()
    states = {name: torch.load(folder / file, weights_only=True) for name, file in RELEASED.items()}

    def loaded(name, path=None):
        network = unet(CLASSES[name])
        network.load_state_dict(states[name])
        return network

    monkeypatch.setattr(package, "get_model", loaded)
    fill = "R231" if model == "LTRCLobes" else None
    theirs = package.LMInferer(model, fillmodel=fill, force_cpu=True, tqdm_disable=True).apply(image_of(hu))
    assert len(np.unique(theirs)) > 2
    ours = sitk.GetArrayFromImage(lungmask_labels(image_of(hu), model, folder, "cpu"))
    if model == "LTRCLobes":  # its lobes 1, 2 are of the left lung, 3 to 5 of the right
        theirs = np.select([theirs == 0, theirs <= 2], [0, 2], 1)
    np.testing.assert_array_equal(ours, theirs)


def test_labels_do_not_depend_on_the_size_of_a_batch(folder, monkeypatch):
    sizes = []
    found = []
    for size in (1, 2):
        monkeypatch.setattr(lungmask, "batch_size", lambda *_, size=size: sizes.append(size) or size)
        labels = lungmask_labels(image_of(slices()), "R231", folder / RELEASED["R231"], "cpu")
        found.append(sitk.GetArrayFromImage(labels))
    assert sizes == [1, 2]
    np.testing.assert_array_equal(found[0], found[1])


def test_batches_keep_to_the_memory():
    held = lungmask._held_bytes() / 1e9
    sizes = [lungmask.batch_size("cpu", held + free_gb) for free_gb in (-1, 0.1, 1, 2, 1e6)]
    assert sizes[:2] == [1, 1]
    assert sizes == sorted(sizes)
    assert 1 < sizes[3] < sizes[4] + 1 <= 21


@pytest.mark.parametrize("axes", AXES[::5])
def test_sides_follow_the_image_whatever_its_axes(axes, monkeypatch):
    monkeypatch.setattr(lungmask, "load_network", lambda *_: Sides())
    hu, truth = scan().hu[28:36], scan().lungs[28:36]
    image = image_of(hu, axes)
    labels = lungmask_labels(image, "R231", None, "cpu")
    for get in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(labels, get)() == getattr(image, get)()
    got = sitk.GetArrayFromImage(labels)
    want = sitk.GetArrayFromImage(image_of(truth, axes))
    assert ((got == want) & (want > 0)).sum() > 0.9 * (want > 0).sum()
    assert not ((got == 3 - want) & (want > 0)).any()


def test_fusing_sees_only_the_box_and_gives_the_same():
    from lungmask.utils import postprocessing

    rng = np.random.default_rng(3)
    lobes = np.zeros((20, 40, 40), np.uint8)
    lobes[5:15, 8:20, 8:30] = 1 + rng.integers(0, 2, (10, 1, 22)).cumsum(2) % 5
    lungs = np.zeros_like(lobes)
    lungs[4:16, 6:22, 9:33] = 1
    spare = lobes.max() + 1
    joined = lobes.copy()
    joined[(lobes == 0) & (lungs > 0)] = spare
    joined[lungs == 0] = 0
    want = postprocessing(joined, spare=[spare], disable_tqdm=True)
    assert want.any()
    np.testing.assert_array_equal(fused(lobes, lungs), want)
    assert not fused(lobes * 0, lungs * 0).any()


@pytest.mark.parametrize("model", RELEASED)
def test_a_folder_holds_the_released_files(model, folder):
    state = load_network(model, folder).state_dict()
    want = torch.load(folder / RELEASED[model], weights_only=True)
    assert list(state) == list(want)
    assert all(torch.equal(state[key], want[key]) for key in want)


def test_warnings_of_the_process_stay_as_they_were(folder):
    load_network("R231", folder)
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)


def test_a_missing_weights_file_names_both_ways_out(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.pth") as fault:
        load_network("R231", tmp_path / "absent.pth")
    assert says_both_ways_out(fault.value)


def test_a_folder_without_the_released_file_names_it(tmp_path):
    with pytest.raises(WeightsError, match=RELEASED["R231CovidWeb"]) as fault:
        load_network("R231CovidWeb", tmp_path)
    assert says_both_ways_out(fault.value)


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 half an archive"])
def test_a_damaged_weights_file_names_both_ways_out(tmp_path, content):
    (tmp_path / "damaged.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"damaged\.pth") as fault:
        load_network("R231", tmp_path / "damaged.pth")
    assert says_both_ways_out(fault.value)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_that_would_run_code_is_refused(tmp_path, archive):
    trap = {"last.weight": Trap(tmp_path / "sprung")}
    if archive:
        torch.save(trap, tmp_path / "trap.pth")
    else:
        (tmp_path / "trap.pth").write_bytes(pickle.dumps(trap, protocol=2))
    with pytest.raises(WeightsError, match=r"trap\.pth"):
        load_network("R231", tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_network_are_named(tmp_path):
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"without down_path.*more") as fault:
        load_network("R231", tmp_path / "other.pth")
    assert says_both_ways_out(fault.value)
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="a list"):
        load_network("R231", tmp_path / "list.pth")


def test_lobes_where_lungs_are_asked_are_refused(folder):
    with pytest.raises(WeightsError, match=r"last\.weight is \(6, 64, 1, 1\), not \(3, 64, 1, 1\)"):
        load_network("R231", folder / RELEASED["LTRCLobes"])
    with pytest.raises(WeightsError, match="two files") as fault:
        lungmask_labels(image_of(slices()), "LTRCLobes", folder / RELEASED["LTRCLobes"], "cpu")
    assert "a folder" in fault.value.advice


def test_the_download_checks_the_hash_and_loads_tensors_only(folder, monkeypatch):
    asked = []

    def download(url, **options):
        asked.append((url, options))
        return torch.load(folder / RELEASED["R231"], weights_only=True)

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    load_network("R231", None)
    ((url, options),) = asked
    assert url.endswith(RELEASED["R231"])
    assert options["check_hash"]
    assert options["weights_only"]


def test_an_unreachable_download_names_both_ways_out(monkeypatch):
    def unreachable(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(WeightsError, match=r"download.*no route to host") as fault:
        load_network("R231", None)
    assert says_both_ways_out(fault.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(folder):
    with pytest.raises(ConfigError, match=r"mask\.device is cuda"):
        lungmask_labels(image_of(slices()), "R231", folder, "cuda")
