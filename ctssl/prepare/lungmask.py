"""Right (1) and left (2) lung by the networks of the lungmask package.

Network, preprocessing and postprocessing are the package's own. Weights are loaded here, so that a file can
hold nothing but tensors, and slices go through in batches that fit the memory.

Source: Hofmanninger et al. 2020, JoHof/lungmask 0.2.
"""

import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ctssl.cards import open_file
from ctssl.errors import ConfigError, WeightsError
from ctssl.log import Progress
from ctssl.prepare.grid import LEFT, RIGHT

FILL = "R231"
"""The network that fills what the lobes' network leaves out."""

_CLASSES = {"R231": 3, "R231CovidWeb": 3, "LTRCLobes": 6}
_SIDE_OF_LOBE = np.array([0, LEFT, LEFT, RIGHT, RIGHT, RIGHT], np.uint8)  # left upper and lower, right three
_EDGE = 256  # pixels of a slice as the network sees it
_SLICE_BYTES = 220e6  # what one slice takes on its way through the network, measured
_MOST_SLICES = 20
_MARGIN = 3  # voxels; postprocessing looks this far beyond a label


def lungmask_labels(
    image: Any, model: str, weights: Path | None, device: str, memory_gb: float = float("inf")
) -> Any:
    """SimpleITK label image, uint8, with the geometry of `image`: 0, 1 right, 2 left.

    Args:
        image: SimpleITK image in HU, any direction.
        model: R231, R231CovidWeb, or LTRCLobes, whose lobes are filled with R231 and joined to lungs.
        weights: a .pth file, a folder with the released files, or None: they are downloaded.
        device: cpu or cuda.
        memory_gb: what this process may hold; smaller batches keep to it.

    Raises:
        WeightsError: the weights cannot be had, or are of another network; names both ways out.
        ConfigError: there is no CUDA device.
    """
    import SimpleITK as sitk

    _check_device(device)
    needed = [model, FILL] if model == "LTRCLobes" else [model]
    if len(needed) > 1 and weights is not None and weights.is_file():
        raise WeightsError(f"{model} needs two files, but mask.weights is one: {weights}", _WAYS_OUT)
    networks = {name: load_network(name, weights) for name in needed}
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    upright = sitk.DICOMOrient(image, "LPS")
    hu = sitk.GetArrayViewFromImage(upright)
    found = [_lungs_of(hu, name, network, device, memory_gb) for name, network in networks.items()]
    labels = found[0] if len(found) == 1 else _SIDE_OF_LOBE[fused(*found)]
    out = sitk.GetImageFromArray(labels)
    out.CopyInformation(upright)
    out = sitk.DICOMOrient(out, code)
    out.CopyInformation(image)  # the same geometry, to the last bit
    return out


def load_network(name: str, weights: Path | None) -> Any:
    """The package's network of this name, in evaluation mode on the CPU.

    Raises:
        WeightsError: the weights cannot be had, or are of another network.
    """
    package = _package()
    state, where = _state(name, weights, package)
    network = package.UNet(
        n_classes=_CLASSES[name], padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False
    )
    own = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    theirs = {key: tuple(getattr(value, "shape", ())) for key, value in state.items()}
    faults = [f"without {key}" for key in own if key not in theirs]
    faults += [f"with {key}" for key in theirs if key not in own]
    faults += [
        f"{key} is {theirs[key]}, not {own[key]}" for key in own if theirs.get(key, own[key]) != own[key]
    ]
    faults = faults or [f"{key} is not finite" for key in own if not state[key].isfinite().all()]
    if faults:
        more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise WeightsError(
            f"{where} does not hold the network {name}: {'; '.join(faults[:4])}{more}", _WAYS_OUT
        )
    network.load_state_dict(state)
    return network.eval()


def fused(lobes: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """(z, y, x) uint8 lobes 1 to 5: what only the second network takes for lung joins the nearest lobe.

    Postprocessing sees only the box of the labels: the result is the same, in less memory.
    """
    spare = int(lobes.max()) + 1
    joined = np.where(lungs > 0, np.where(lobes > 0, lobes, spare), 0).astype(np.uint8)
    out = np.zeros_like(joined)
    at = [np.flatnonzero(joined.any(tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if not len(at[0]):
        return out
    box = tuple(slice(max(a[0] - _MARGIN, 0), a[-1] + 1 + _MARGIN) for a in at)
    out[box] = _package().utils.postprocessing(joined[box], spare=[spare], disable_tqdm=True)
    return out


def _package() -> ModuleType:
    """The package's module lungmask.mask, which on import silences every UserWarning of the process."""
    with warnings.catch_warnings():
        import lungmask.mask as package
    return package


def _state(name: str, weights: Path | None, package: ModuleType) -> tuple[dict[str, Any], str]:
    """State dict, and the words for where it came from."""
    import pickle

    import torch

    url, _ = package.MODEL_URLS[name]
    released = url.rsplit("/", 1)[-1]
    if weights is not None and weights.is_dir():
        weights = weights / released
    where = "the download of its weights" if weights is None else f"mask.weights ({weights})"
    try:
        if weights is None:
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        else:
            with open_file(weights) as file:
                state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, *_DAMAGE, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"the lungmask weights {name} are not in {where}: {reason}", _WAYS_OUT) from error
    if not isinstance(state, dict):
        raise WeightsError(f"{where} holds no weights by name, but a {type(state).__name__}", _WAYS_OUT)
    return state, where


_DAMAGE = (RuntimeError, ValueError, LookupError, TypeError, AttributeError)  # what torch makes of it
_WAYS_OUT = (
    "either download the .pth file named at https://github.com/JoHof/lungmask/releases and set mask.weights "
    "to its path (for LTRCLobes: to a folder with the released files of LTRCLobes and R231), or set "
    "mask.method: threshold, which needs no weights"
)


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("mask.device is cuda, but torch sees no such device", "set mask.device: cpu")


def _lungs_of(hu: np.ndarray, name: str, network: Any, device: str, memory_gb: float) -> np.ndarray:
    """(z, y, x) uint8 labels of one network for upright HU."""
    import torch

    utils = _package().utils
    network = network.to(device)
    small = np.empty((len(hu), _EDGE, _EDGE), np.uint8)
    boxes = []
    size = batch_size(device, memory_gb)
    with Progress(f"lungmask {name}", len(hu), "slices") as progress, torch.inference_mode():
        for start in range(0, len(hu), size):
            slices, where = utils.preprocess(hu[start : start + size], resolution=[_EDGE, _EDGE])
            batch = (np.minimum(slices, 600) + 1024.0) / 1624.0
            scores = network(torch.as_tensor(batch[:, None], dtype=torch.float32, device=device))
            small[start : start + size] = scores.argmax(1).to(torch.uint8).cpu().numpy()
            boxes += where
            progress.advance(len(where))
    labels = utils.postprocessing(small, disable_tqdm=True)
    out = np.empty(hu.shape, np.uint8)
    for number, box in enumerate(boxes):
        out[number] = utils.reshape_mask(labels[number], box, hu.shape[1:])
    return out


def batch_size(device: str, memory_gb: float) -> int:
    """How many slices go through the network at once: they fit in half of the memory that is free."""
    import torch

    if device == "cuda":
        free = float(torch.cuda.mem_get_info()[0])
    else:
        free = min(_available_bytes(), memory_gb * 1e9 - _held_bytes())
    return int(np.clip(free / 2 / _SLICE_BYTES, 1, _MOST_SLICES))


def _available_bytes() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _held_bytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[5])  # data, which the limit is about
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
