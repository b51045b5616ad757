"""The box of a scan's lungs on disk, from which crops and whole volumes are read.

BOX/status.json     whether the scan has a box
BOX/box.zarr/       zarr v3 group; chunks of CHUNK voxels a side, one shard an array
    volume          (z, y, x) int16, HU, on the atlas's axes and spacing: the lungs' box with a margin
    mask            (z, y, x) uint8, 1 right lung, 2 left
BOX/box.json        the card, written last: digest of the values, shape, where they lie, and a seal
"""

import json
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.cards import read_card
from ctssl.errors import StoreError, system_error
from ctssl.store.handles import READ_ERRORS, cause, file_kvstore, open_array
from ctssl.store.layout import AIR_HU, GROUP_METADATA, check_seal, data_file, sealed, typed_metadata

GROUP, CARD = "box.zarr", "box.json"
CHUNK = 32
"""Voxels along each side of an inner chunk."""

DTYPES: dict[str, np.dtype[Any]] = {"volume": np.dtype(np.int16), "mask": np.dtype(np.uint8)}
"""Of each array, in the order that the digest reads them."""

Corner = Sequence[int] | np.ndarray

_MOST_VOXELS = 1 << 31
_SLACK_BYTES = 1 << 20  # what indices, headers and checksums may add to a file


@dataclass(frozen=True)
class Box:
    """One scan's box; the values stay where they are until they are read.

    Attributes:
        scan: the scan's id.
        card: of the box: digest, atlas, spacing_mm, origin_mm, lungs, ...
        shape: voxels along z, y, x.
        lungs: (2, 3) first voxel of the lungs' own box and the one after its last, z, y, x.
        path: where it lies, for messages.
    """

    scan: str
    card: dict[str, Any]
    shape: tuple[int, int, int]
    lungs: np.ndarray
    path: Path | None
    _arrays: dict[str, Any] = field(repr=False)

    @property
    def spacing_mm(self) -> float:
        """Distance of voxels."""
        return float(self.card["spacing_mm"])

    def read(self, name: str, low: Corner, high: Corner) -> np.ndarray:
        """(z, y, x) of `volume` or `mask` from voxel `low` up to, not including, `high`.

        What lies beyond the box is air, and no lung.

        Raises:
            StoreError: values are missing or damaged; it names the scan.
        """
        size = tuple(int(b - a) for a, b in zip(low, high, strict=True))
        out = np.full(size, AIR_HU if name == "volume" else 0, DTYPES[name])
        first, last = np.maximum(low, 0), np.minimum(high, self.shape)
        if (first >= last).any():
            return out
        there = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        here = tuple(slice(s.start - int(a), s.stop - int(a)) for s, a in zip(there, low, strict=True))
        try:
            out[here] = self._arrays[name][there].read().result()
        except READ_ERRORS as error:
            message = f"the {name} of scan {self.scan} is missing or damaged in {self.path}: {cause(error)}"
            raise system_error(error) or StoreError(message, _REMAKE) from error
        return out

    def whole(self, name: str) -> np.ndarray:
        """(z, y, x) all of `volume` or `mask`."""
        return self.read(name, (0, 0, 0), self.shape)

    def verify(self) -> None:
        """Nothing, when every value is the one that was written; reads them all.

        Raises:
            StoreError: values are missing or changed.
        """
        if _digest({name: self.whole(name) for name in DTYPES}) != self.card["digest"]:
            raise StoreError(f"the values in {self.path} are not those that were written", _REMAKE)


def write_box(path: Path, hu: np.ndarray, mask: np.ndarray, card: dict[str, Any]) -> dict[str, Any]:
    """The card as written.

    Args:
        path: the box's directory; must exist and hold no box.
        hu: (z, y, x) HU.
        mask: (z, y, x), 1 right lung, 2 left; anything but empty.
        card: scan, atlas, spacing_mm, axes, origin_mm, ...; `shape`, `lungs`, `digest` and `seal` are added.
    """
    values = _values(hu, mask)
    group = path / GROUP
    group.mkdir()
    (group / "zarr.json").write_text(json.dumps(GROUP_METADATA, indent=2))
    for name, array in values.items():
        metadata = _metadata(name, array.shape)
        (group / name).mkdir()
        (group / name / "zarr.json").write_text(json.dumps(metadata, indent=1))
        try:
            open_array(file_kvstore(group / name), metadata, write=True).write(array).result()
        except READ_ERRORS as error:
            raise system_error(error) or error from None
    card = sealed(card | _about(values))
    (path / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    return card


def box_of(hu: np.ndarray, mask: np.ndarray, card: dict[str, Any]) -> Box:
    """A box in memory, of a scan that is not kept; arguments as those of `write_box`."""
    import tensorstore

    values = _values(hu, mask)
    arrays = {name: tensorstore.array(array) for name, array in values.items()}
    return _box(card | _about(values), None, arrays)


def open_box(path: Path, *, scan: str, atlas: str) -> Box:
    """The box in this directory.

    Args:
        path: the box's directory.
        scan: whose box it should be.
        atlas: refuse a box on the axes of an atlas of another id.

    Raises:
        StoreError: no card, missing data, or of another scan or atlas; it names the scan.
    """
    path = path.resolve()  # tensorstore refuses paths with ..
    try:
        card = read_card(path / CARD)
        check_seal(card)
        _check_card(card)
        for name in DTYPES:
            _check_file(path / GROUP / name, name, card["shape"])
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise StoreError(f"{path} holds no complete box of scan {scan}: {error}", _REMAKE) from error
    for key, wanted in (("scan", scan), ("atlas", atlas)):
        if card[key] != wanted:
            raise StoreError(
                f"the box of scan {scan} in {path} is of {key} {card[key]}, not {wanted}", _REMAKE
            )
    folder, shape = path / GROUP, card["shape"]
    arrays = {name: open_array(file_kvstore(folder / name), _metadata(name, shape)) for name in DTYPES}
    return _box(card, path, arrays)


_REMAKE = "delete this directory and run the workflow again, or copy it again if it was made elsewhere"


def _box(card: dict[str, Any], path: Path | None, arrays: dict[str, Any]) -> Box:
    z, y, x = card["shape"]
    return Box(card["scan"], card, (z, y, x), np.array(card["lungs"]), path, arrays)


def _values(hu: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    given = {"volume": hu, "mask": mask}
    return {name: np.ascontiguousarray(given[name], dtype) for name, dtype in DTYPES.items()}


def _about(values: dict[str, np.ndarray]) -> dict[str, Any]:
    """What the card says of the values."""
    inside = values["mask"] > 0
    along = [np.flatnonzero(inside.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
    lungs = [[int(a[0]) for a in along], [int(a[-1]) + 1 for a in along]]
    return {"shape": list(inside.shape), "lungs": lungs, "digest": _digest(values)}


def _digest(values: dict[str, np.ndarray]) -> str:
    """sha256 over names, types, shapes and values (little endian), independent of chunks and codecs."""
    state = sha256()
    for name, array in values.items():
        state.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        state.update(array.data)
    return state.hexdigest()


def _metadata(name: str, shape: Sequence[int]) -> dict[str, Any]:
    shard = [-(-n // CHUNK) * CHUNK for n in shape]
    return typed_metadata(DTYPES[name], shape, shard, (CHUNK,) * 3)


def _check_card(card: dict[str, Any]) -> None:
    """Nothing, when a card holds what a reader takes from it, and promises no more than memory may hold."""
    shape, lungs = card.get("shape", []), card.get("lungs", [])
    wrong = [key for key in ("scan", "atlas", "digest") if not isinstance(card.get(key), str)]
    if wrong:
        raise ValueError(f"{wrong[0]} is no text")
    if type(card.get("spacing_mm")) not in (int, float) or not 0 < card["spacing_mm"] < 1000:
        raise ValueError("spacing_mm is no length")
    if not _whole(shape) or min(shape) < 1 or prod(shape) > _MOST_VOXELS:
        raise ValueError(f"its shape is {str(shape)[:60]}")
    if not (isinstance(lungs, list) and len(lungs) == 2 and all(map(_whole, lungs))):
        raise ValueError(f"its lungs are {str(lungs)[:60]}")
    if not all(0 <= a < b <= n for a, b, n in zip(*lungs, shape, strict=True)):
        raise ValueError(f"its lungs {lungs} lie beyond its shape {shape}")


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and len(numbers) == 3 and all(type(n) is int for n in numbers)


def _check_file(folder: Path, name: str, shape: Sequence[int]) -> None:
    """Nothing, when the values of an array lie in a file of a size that they may have."""
    about = (folder / data_file(shape)).stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"the values of {name} should lie in a file")
    shard = prod(-(-n // CHUNK) * CHUNK for n in shape)
    if about.st_size > 2 * DTYPES[name].itemsize * shard + _SLACK_BYTES:
        raise ValueError(f"the file of {name}, {about.st_size} bytes, is too large for the shape {shape}")
