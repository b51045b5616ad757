"""Reading stores with tensorstore: missing or damaged data is an error, never air."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ctssl.cards import read_card
from ctssl.errors import StoreError, system_error
from ctssl.store.checks import check_metadata, check_promises, faults
from ctssl.store.handles import READ_ERRORS, Patches, cause, file_kvstore, open_array, over_shards
from ctssl.store.layout import (
    CARD,
    DTYPES,
    GROUP,
    SMALL,
    StoreArrays,
    array_metadata,
    check_seal,
    data_file,
)

OPENERS = 16
"""Threads that open stores: they wait for the file system, which on a cluster answers in a millisecond."""


@dataclass(frozen=True)
class Store:
    """One scan's store; the patches stay on disk until they are read.

    Attributes:
        scan: the scan's id.
        path: its directory, or that of the packed copy it is read from.
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
    _patches: Patches = field(repr=False)
    _row: int = field(default=0, repr=False)

    def patches(self, landmarks: np.ndarray | None = None) -> np.ndarray:
        """(n, E, E, E) int16 HU, axes landmark, z, y, x; all N landmarks when None.

        Raises:
            TypeError: `landmarks` are no whole numbers, as a mask is none.
            IndexError: there is no such landmark.
            StoreError: a patch is missing or damaged.
        """
        index = np.arange(len(self.valid)) if landmarks is None else np.asarray(landmarks)
        return read_patches([self], np.zeros(index.size, int), index)

    @property
    def patch_voxels(self) -> int:
        """Edge of a patch."""
        return self._patches.edge

    def verify(self) -> None:
        """Nothing, when metadata and every value are those that were written; reads them all.

        Raises:
            StoreError: data are missing or changed.
        """
        try:
            check_metadata(self.path, self.card["shapes"])
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise StoreError(f"{self.path} cannot be opened: {error}", _REMAKE) from error
        small = (self.valid, self.landmarks_mm, self.lung_fraction, self.edges)
        if StoreArrays(self.patches(), *small).digest() != self.card["digest"]:
            raise StoreError(f"the values in {self.path} are not those that were written", _REMAKE)


def open_store(path: Path, *, atlas: str | None = None) -> Store:
    """The store in this directory.

    Args:
        path: the store's directory.
        atlas: refuse stores made with an atlas of another id.

    Raises:
        StoreError: no card, missing data, or another atlas.
    """
    return open_stores([path], atlas=atlas)[0]


def open_stores(paths: Sequence[Path], *, atlas: str | None = None) -> list[Store]:
    """The stores in these directories, in order, behind one handle on their patches.

    Args:
        paths: the stores' directories; all of one atlas.
        atlas: refuse stores made with an atlas of another id.

    Raises:
        StoreError: no card, missing data, values that cannot be, another atlas, or patches of several shapes.
    """
    if not paths:
        return []
    paths = [path.resolve() for path in paths]  # tensorstore refuses paths with ..
    with ThreadPoolExecutor(min(OPENERS, len(paths))) as pool:
        cards = list(pool.map(lambda path: _read_card(path, atlas), paths))
        small = list(pool.map(_read_small, paths, cards))
    shapes = {tuple(card["shapes"]["patches"]): path for path, card in zip(paths, cards, strict=True)}
    if len(shapes) > 1:
        raise StoreError(
            "stores that are read together have patches of one shape, but "
            + ", ".join(f"{path} has {shape}" for shape, path in shapes.items()),
            "use one results directory per atlas",
        )
    (shape,) = shapes
    patches = over_shards([path / GROUP / "patches" / data_file(shape) for path in paths], shape)
    each = enumerate(zip(paths, cards, small, strict=True))
    stores = [Store(c["scan"], p, c, **s, _patches=patches, _row=row) for row, (p, c, s) in each]
    for store in stores:
        fault = next(faults(store), None)
        if fault is not None:
            raise StoreError(f"{store.path} cannot be used, for {fault}", _REMAKE)
    return stores


def open_named(paths: Sequence[Path], digests: Mapping[str, str], *, atlas: str | None = None) -> list[Store]:
    """The stores in these directories, which are those that the cohort job saw.

    Args:
        paths: of the stores.
        digests: scan -> digest of its store, in the order of the paths.
        atlas: refuse stores made with an atlas of another id.

    Raises:
        StoreError: as `open_stores`, or a store is another scan's or was replaced.
    """
    stores = open_stores(paths, atlas=atlas)
    for store, named in zip(stores, digests.items(), strict=True):
        if (store.scan, store.card["digest"]) != named:
            raise StoreError(
                f"{store.path} is not the store of {named[0]} that the results' scans.csv names",
                "delete that table and run the same snakemake command: it looks at all stores again",
            )
    return stores


def read_patches(stores: Sequence[Store], scans: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(B, E, E, E) int16 HU: patch landmarks[b] of stores[scans[b]], axes sample, z, y, x.

    All reads are under way together; the order of the result is the order asked for. The stores are of
    one atlas, which gives the edge E of a patch.

    Raises:
        StoreError: a patch is missing or damaged; it names the scan and the landmark.
        IndexError: there is no such scan or landmark.
        TypeError: these are no whole numbers.
        ValueError: there is no store, or there are not as many landmarks as scans.
    """
    if not stores:
        raise ValueError("patches are read from at least one store, but none came: give the stores of scans")
    scans = _numbers("scans", scans, len(stores))
    landmarks = _numbers("landmarks", landmarks, len(stores[0].valid))
    if len(scans) != len(landmarks):
        raise ValueError(f"each patch has a scan and a landmark, but {len(scans)} and {len(landmarks)} came")
    out = np.empty((len(landmarks),) + (stores[0]._patches.edge,) * 3, np.int16)
    members, place = np.unique(scans, return_inverse=True)
    rows = np.array([stores[s]._row for s in members], np.int64)[place]
    handles = {id(stores[s]._patches): stores[s]._patches for s in members}
    belongs = np.array([id(stores[s]._patches) for s in members], np.int64)[place]
    copies = []
    for key, patches in handles.items():
        at = np.flatnonzero(belongs == key) if len(handles) > 1 else None
        chosen = slice(None) if at is None else at
        copies.append(patches.read_into(out, at, rows[chosen], landmarks[chosen]))
    try:
        for copy in copies:
            copy.result()
    except READ_ERRORS as error:
        _name_fault(stores, scans, landmarks, error)
    return out


def _numbers(what: str, given: np.ndarray, count: int) -> np.ndarray:
    """(n,) int64, numbers from 0 to count - 1."""
    numbers = np.asarray(given)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise TypeError(
            f"{what} are a row of whole numbers, but these are {numbers.dtype} of shape {numbers.shape}: "
            "give those of a mask by np.flatnonzero(mask)"
        )
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < count:
        raise IndexError(
            f"{what} are numbers from 0 to {count - 1}, but these go from {numbers.min()} to {numbers.max()}"
        )
    return numbers.astype(np.int64)


def verify(path: Path) -> None:
    """Nothing, when every value in the store is the one that was written.

    Raises:
        StoreError: data are missing or changed.
    """
    open_store(path).verify()


_REMAKE = "delete this directory and run the workflow again, or copy it again if it was made elsewhere"


def _read_card(path: Path, atlas: str | None) -> dict[str, Any]:
    """The card of a store whose promises were looked at."""
    try:
        card = read_card(path / CARD)
        check_seal(card)
        wrong = [key for key in ("scan", "atlas", "digest") if not isinstance(card[key], str)]
        if wrong:
            raise ValueError(f"{wrong[0]} is no text")
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError) as error:
        raise StoreError(f"{path} holds no complete store: {error}", _REMAKE) from error
    if atlas is not None and card["atlas"] != atlas:
        raise StoreError(
            f"{path} was made with atlas {card['atlas']}, but this needs atlas {atlas}",
            "use one results directory per atlas",
        )
    try:
        check_promises(path, card.get("shapes"))
    except ValueError as error:
        raise StoreError(f"{path / GROUP}/{error}", _REMAKE) from error
    return card


def _read_small(path: Path, card: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a store without its patches, by name, all under way together."""
    reads = {name: _start(path / GROUP / name, name, card["shapes"][name]) for name in SMALL}
    return {name: _read(reads[name], f"{name} of scan {card['scan']}", path) for name in SMALL}


def _start(folder: Path, name: str, shape: Sequence[int]) -> Any:
    """A future of the array's values, or the values where there are none."""
    if 0 in shape:
        return np.empty(shape, DTYPES[name])
    return open_array(file_kvstore(folder), array_metadata(name, shape)).read()


def _read(values: Any, what: str, path: Path) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    try:
        return np.asarray(values.result())
    except READ_ERRORS as error:
        message = f"{what} is missing or damaged in {path}: {cause(error)}"
        raise system_error(error) or StoreError(message, _REMAKE) from error


def _name_fault(
    stores: Sequence[Store], scans: np.ndarray, landmarks: np.ndarray, error: Exception
) -> NoReturn:
    """Which patch it was: a batch that fails does not say, so each is read alone."""
    for scan, landmark in zip(scans, landmarks, strict=True):
        store = stores[scan]
        try:
            store._patches.array[store._row, int(landmark)].read().result()
        except READ_ERRORS as fault:
            raise system_error(fault) or StoreError(
                f"the patch of landmark {landmark} of scan {store.scan} is missing or damaged in "
                f"{store.path}: {cause(fault)}",
                _REMAKE,
            ) from fault
    raise StoreError(
        f"patches could not be read, though each alone can: {cause(error)}",
        "the file system fails now and then; run the same command again",
    ) from error
