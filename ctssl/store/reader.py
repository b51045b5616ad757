"""Reading stores with tensorstore: missing or damaged data is an error, never air."""

import math
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.cards import read_card
from ctssl.errors import StoreError, system_error
from ctssl.store.layout import CARD, DTYPES, GROUP, StoreArrays, array_metadata, data_file


@dataclass(frozen=True)
class Store:
    """One scan's store; the patches stay on disk until they are read.

    Attributes:
        scan: the scan's id.
        card: the store's card (digest, atlas, spacing_mm, hu_min, hu_max, measures, ...).
        valid: (N,) bool.
        landmarks_mm: (N, 3), x, y, z in LPS mm of the scan.
        lung_fraction: (N,).
        edges: (E, 2) pairs of valid landmarks, no self loops.
    """

    scan: str
    path: Path
    card: dict[str, Any]
    valid: np.ndarray
    landmarks_mm: np.ndarray
    lung_fraction: np.ndarray
    edges: np.ndarray
    _patches: Any = field(repr=False)

    def patches(self, landmarks: np.ndarray | None = None) -> np.ndarray:
        """(n, E, E, E) int16 HU, axes landmark, z, y, x; all N landmarks when None."""
        index = np.arange(len(self.valid)) if landmarks is None else np.asarray(landmarks)
        return read_patches([self], np.zeros(len(index), int), index)

    @property
    def patch_voxels(self) -> int:
        """Edge of a patch."""
        return int(self._patches.shape[-1])

    def verify(self) -> None:
        """Nothing, when every value is the one that was written; reads them all.

        Raises:
            StoreError: data are missing or changed.
        """
        small = (self.valid, self.landmarks_mm, self.lung_fraction, self.edges)
        if StoreArrays(_read(self._patches), *small).digest() != self.card["digest"]:
            raise StoreError(f"the values in {self.path} are not those that were written", _REMAKE)


def open_store(path: Path, *, atlas: str | None = None) -> Store:
    """The store in this directory; what it says of landmarks and edges makes sense.

    Args:
        path: the store's directory.
        atlas: refuse stores made with an atlas of another id.

    Raises:
        StoreError: no card, missing data, values that cannot be, or another atlas.
    """
    store = _open_store(path)
    if atlas is not None and store.card["atlas"] != atlas:
        raise StoreError(
            f"{path} was made with atlas {store.card['atlas']}, but this needs atlas {atlas}",
            "use one results directory per atlas",
        )
    fault = next(_faults(store), None)
    if fault is not None:
        raise StoreError(f"{path} cannot be used, for {fault}", _REMAKE)
    return store


def read_patches(stores: Sequence[Store], scans: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(B, E, E, E) int16 HU: patch landmarks[b] of stores[scans[b]], axes sample, z, y, x.

    All reads are under way together; the order of the result is the order asked for. The stores are of
    one atlas, which gives the edge E of a patch.
    """
    reads = [stores[s]._patches[int(j)].read() for s, j in zip(scans, landmarks, strict=True)]
    try:
        if not reads:
            return np.empty((0, *stores[0]._patches.shape[1:]), np.int16)
        return np.stack([r.result() for r in reads])
    except _DAMAGE as error:
        raise _fault("a patch cannot be read", error) from error


def verify(path: Path) -> None:
    """Nothing, when every value in the store is the one that was written.

    Raises:
        StoreError: data are missing or changed.
    """
    _open_store(path).verify()


_REMAKE = "delete this directory and run the workflow again, or copy it again if it was made elsewhere"
_SHAPES: dict[str, tuple[int | None, ...]] = {
    "patches": (None, None, None, None),
    "valid": (None,),
    "landmarks_mm": (None, 3),
    "lung_fraction": (None,),
    "edges": (None, 2),
}
_MOST_BYTES = 1 << 26  # of a patch, and of each other array: a million landmarks have less
# What tensorstore says of cut and changed files.
_DAMAGE = (ValueError, NotImplementedError, IndexError)
_SLACK_BYTES = 1 << 16  # what headers and checksums may add to a file


def _open_store(path: Path) -> Store:
    """The store as it is on disk, its values not looked at."""
    path = path.resolve()  # tensorstore refuses paths with ..
    try:
        card = read_card(path / CARD)
        wrong = [key for key in ("scan", "atlas", "digest") if not isinstance(card[key], str)]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError) as error:
        raise StoreError(f"{path} holds no complete store: {error}", _REMAKE) from error
    if wrong:
        raise StoreError(f"{path} holds no complete store: {wrong[0]} is no text", _REMAKE)
    small = {name: _read(_open(path, name)) for name in DTYPES if name != "patches"}
    return Store(scan=card["scan"], path=path, card=card, _patches=_open(path, "patches"), **small)


def _faults(store: Store) -> Iterator[str]:
    """What cannot be in a store, whoever wrote it."""
    count, edges, valid = len(store.valid), store.edges, store.valid
    for name, array in (
        ("patches", store._patches),
        ("landmarks_mm", store.landmarks_mm),
        ("lung_fraction", store.lung_fraction),
    ):
        if array.shape[0] != count:
            yield f"{name} has {array.shape[0]} rows for {count} landmarks"
            return
    for key, there in (("landmarks", count), ("valid", int(valid.sum()))):
        if store.card.get(key) != there:
            yield f"its card says {str(store.card.get(key))[:20]} {key}, but there are {there}"
    if not np.isfinite(store.landmarks_mm[valid]).all():
        yield "a landmark is not a point"
    if not ((store.lung_fraction >= 0) & (store.lung_fraction <= 1)).all():
        yield "lung_fraction is not between 0 and 1"
    if not ((edges >= 0) & (edges < count)).all():
        yield f"an edge joins landmarks beyond the {count} that there are"
    elif not (edges[:, 0] < edges[:, 1]).all() or len(np.unique(edges, axis=0)) < len(edges):
        yield "an edge comes twice, backwards, or joins a landmark with itself"
    elif not valid[edges].all():
        yield "an edge joins a landmark that is not valid"
    measures = store.card.get("measures", {})
    if not isinstance(measures, dict) or not all(_is_number(value) for value in measures.values()):
        yield "its measures are not numbers"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < np.finfo(np.float32).max


def _open(path: Path, name: str) -> Any:
    """A tensorstore array, when its metadata are those that the writer gives an array of its shape."""
    import tensorstore

    folder = path / GROUP / name
    try:
        shape = read_card(folder / "zarr.json")["shape"]
        _check_promise(name, shape, folder)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError) as error:
        raise StoreError(f"{folder} cannot be opened: {error}", _REMAKE) from error
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "metadata": array_metadata(name, shape),
        "fill_missing_data_reads": False,
    }
    try:
        return tensorstore.open(spec, read=True, open=True).result()
    except _DAMAGE as error:
        raise _fault(f"{folder} cannot be opened, it is not as ctssl writes it", error) from error


def _check_promise(name: str, shape: Any, folder: Path) -> None:
    """Nothing, when the shape is one for this array, and the file with its values a file of such a size."""
    wanted = _SHAPES[name]
    if not (
        isinstance(shape, list)
        and len(shape) == len(wanted)
        and all(type(n) is int and n >= 0 for n in shape)
        and all(n in (None, m) for n, m in zip(wanted, shape, strict=True))
    ):
        raise ValueError(f"its shape is {str(shape)[:60]}")
    size = DTYPES[name].itemsize * math.prod(shape)
    if (size // max(1, shape[0]) if name == "patches" else size) > _MOST_BYTES:
        raise ValueError(f"its shape {shape} is too large")
    if not size:
        return
    about = (folder / data_file(shape)).stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("its values should lie in a file")
    if about.st_size > 2 * size + _SLACK_BYTES:
        raise ValueError(f"its file of {about.st_size} bytes is too large for the shape {shape}")


def _read(array: Any) -> np.ndarray:
    if 0 in array.shape:
        return np.empty(array.shape, array.dtype.numpy_dtype)
    try:
        return np.asarray(array.read().result())
    except _DAMAGE as error:
        raise _fault("data are missing or damaged", error) from error


def _fault(what: str, error: Exception) -> OSError:
    """The error to raise for one of tensorstore's, which tells faults of the machine in words only."""
    return system_error(error) or StoreError(f"{what}: {error}", _REMAKE)
