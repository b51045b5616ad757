"""What a person gives as patches and places, looked at before a network sees it."""

from typing import Any

import torch
from torch import Tensor

_BEYOND = 0.25  # of the landmarks' box: patches may lie a little beside it

_HU = "give HU as the scanner has them (air -1000, water 0), axes z, y, x; the model has the window"
_PLACES = (
    "give x, y, z on the scale of `model.coordinates`, which has a row for each landmark; 1 is the highest"
)


def check_patches(values: Any, edge: int) -> Tensor:
    """(B, E, E, E) float32 HU, where the values are.

    Raises:
        TypeError: no array or tensor of numbers.
        ValueError: another shape, NaN or infinity, or values that a window has been put on already.
    """
    patches = _tensor(values, "patches")
    if patches.shape[1:] != (edge, edge, edge) or patches.ndim != 4:
        hint = "" if patches.numel() else ", which is empty"
        raise ValueError(
            f"patches have the shape (B, {edge}, {edge}, {edge}), but this is {tuple(patches.shape)}{hint}; "
            + ("one patch is patch[None]" if patches.shape == (edge,) * 3 else _HU)
        )
    bad = ~torch.isfinite(patches).flatten(1).all(1)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"{int(bad.sum())} of {len(patches)} patches hold NaN or infinity, patch {first} is the first; "
            "what lies outside of a scan is air, -1024"
        )
    if patches.numel() and patches.abs().max() <= 1 and (patches != patches.round()).any():
        low, high = patches.min().item(), patches.max().item()
        raise ValueError(f"patches hold values from {low:.3g} to {high:.3g}, which are no HU; {_HU}")
    return patches


def check_coordinates(values: Any, count: int) -> Tensor:
    """(B, 3) float32, where the values are.

    Raises:
        TypeError: no array or tensor of numbers.
        ValueError: another shape or number than the patches, NaN or infinity, or far from 0 to 1.
    """
    places = _tensor(values, "coords")
    if places.shape != (count, 3):
        raise ValueError(
            f"coords have the shape (B, 3) with B = {count} as the patches, but this is "
            f"{tuple(places.shape)}; {_PLACES}"
        )
    if not torch.isfinite(places).all():
        raise ValueError(f"coords hold NaN or infinity; {_PLACES}")
    if count and (places.min() < -_BEYOND or places.max() > 1 + _BEYOND):
        low, high = places.min().item(), places.max().item()
        raise ValueError(f"coords lie from 0 to 1, but these from {low:.3g} to {high:.3g}; {_PLACES}")
    return places


def _tensor(values: Any, what: str) -> Tensor:
    """The values as float32; a tensor stays on its device."""
    import numpy as np

    if isinstance(values, Tensor):
        if values.is_complex() or values.dtype == torch.bool:
            raise TypeError(f"{what} are numbers, but this is a tensor of {values.dtype}")
        return values.detach().float()
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"{what} are an array or a tensor of numbers, but this is {type(values).__name__} "
            f"of {array.dtype}"
        )
    return torch.from_numpy(np.array(array, np.float32, order="C"))
