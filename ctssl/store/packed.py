"""A packed copy of a cohort's stores for slow file systems: landmark by landmark, in files of many scans.

PACKED/zarr.json       zarr v3 group; the first axis of its arrays is a row, which is one scan
    patches            (R, N, E, E, E), a shard holds one landmark of BLOCK scans
    valid, landmarks_mm, lung_fraction     as in a store, (R, N, ...)
    edges              (T, 2), those of all rows one after the other
PACKED/packed.json     the card, written last: the stores' own cards, one a row

Rows are only ever added, so a copy that is interrupted leaves what the card says as it was. A scan whose
store changed gets a new row, and the last row of a scan counts.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.errors import StoreError
from ctssl.log import Progress, say
from ctssl.store.handles import READ_ERRORS, Patches, cause, file_kvstore, open_array
from ctssl.store.layout import GROUP_METADATA, SMALL, check_seal, sealed, zarr_metadata
from ctssl.store.reader import Store, read_patches

CARD = "packed.json"
BLOCK = 256
"""Scans of one shard: 9 MB of patches of 32 voxels, which any file system reads in one go."""
EDGES = 65536
"""Pairs of one chunk of edges."""
AT_ONCE_BYTES = 512 * 2**20
"""Of patches in memory while packing."""


def pack(folder: Path, stores: Sequence[Store]) -> int:
    """How many scans were added, so that the copy holds all of these stores.

    A copy of another atlas, or without a readable card, is made anew; so is one of which most rows are out
    of use.

    Args:
        folder: of the copy; made when it is not there.
        stores: of one atlas, at least one.
    """
    atlas = stores[0].card["atlas"]
    cards = _kept_cards(folder, atlas, {_which(store.card) for store in stores})
    known = {_which(card) for card in cards}
    new = [store for store in stores if _which(store.card) not in known]
    if not cards:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "zarr.json").write_text(json.dumps(GROUP_METADATA, indent=2))
    first, cards = len(cards), cards + [store.card for store in new]
    if new:
        _append(folder, first, new, cards)
    part = folder / f".{CARD}.{os.getpid()}"
    part.write_text(json.dumps(sealed({"atlas": atlas, "rows": cards})) + "\n")
    part.replace(folder / CARD)  # also when nothing is new: the workflow looks at its time
    return len(new)


def open_packed(folder: Path, digests: Mapping[str, str], *, atlas: str) -> list[Store]:
    """The stores of these scans, in order, as the packed copy holds them.

    Args:
        folder: of the copy.
        digests: scan -> digest of its store.
        atlas: refuse a copy of stores made with another atlas.

    Raises:
        StoreError: the copy lacks a scan, or is incomplete, damaged or of another atlas.
    """
    try:
        card = _read_card(folder)
        cards, made_with = card["rows"], card["atlas"]
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{folder} holds no complete packed copy: {error}", _REMAKE) from error
    if made_with != atlas:
        raise StoreError(f"{folder} was made with atlas {made_with}, but this needs atlas {atlas}", _REMAKE)
    row_of = {_which(one): row for row, one in enumerate(cards)}
    missing = [scan for scan, digest in digests.items() if (scan, digest) not in row_of]
    if missing:
        raise StoreError(
            f"the packed copy in {folder} lacks {len(missing)} of {len(digests)} scans: "
            f"{', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''}",
            "run the workflow again: its job pack adds them",
        )
    shapes = _shapes(cards)
    small = {name: _read(folder, name, shapes[name]) for name in SMALL}
    ends = np.cumsum([one["shapes"]["edges"][0] for one in cards])
    patches = Patches(_open(folder, "patches", shapes["patches"]))
    stores = []
    for row in (row_of[pair] for pair in digests.items()):
        own = {name: small[name][row] for name in ("valid", "landmarks_mm", "lung_fraction")}
        own["edges"] = small["edges"][ends[row] - cards[row]["shapes"]["edges"][0] : ends[row]]
        stores.append(Store(cards[row]["scan"], folder, cards[row], **own, _patches=patches, _row=row))
    return stores


_REMAKE = "delete this directory and run the workflow again: its job pack makes the copy anew from the stores"


def _read_card(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / CARD).read_bytes())
    check_seal(card)
    return card


def _which(card: dict[str, Any]) -> tuple[str, str]:
    """Scan and digest: two scans may have equal values, and a scan may get a new name."""
    return card["scan"], card["digest"]


def _kept_cards(folder: Path, atlas: str, wanted: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """The cards of the rows that stay; none when the copy is to be made anew."""
    if not (folder / CARD).exists():
        return []
    try:
        card = _read_card(folder)
    except ValueError as error:
        say(f"{folder / CARD} cannot be read and the copy is made anew: {error}")
        return []
    used = len(wanted & set(map(_which, card["rows"])))
    if card["atlas"] != atlas or used < len(card["rows"]) / 2:
        say(f"{folder} is made anew: {used} of its {len(card['rows'])} scans are still asked for")
        return []
    return list(card["rows"])


def _append(folder: Path, first: int, new: Sequence[Store], cards: Sequence[dict[str, Any]]) -> None:
    """Write the new rows, from number `first` on; the metadata grow first."""
    shapes, rows = _shapes(cards), slice(first, len(cards))
    arrays = {}
    for name, shape in shapes.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "zarr.json").write_text(json.dumps(_metadata(name, shape), indent=1))
        arrays[name] = _open(folder, name, shape, write=True)
    for name in ("valid", "landmarks_mm", "lung_fraction"):
        arrays[name][rows].write(np.stack([getattr(store, name) for store in new])).result()
    edges = np.concatenate([store.edges for store in new])
    if len(edges):
        arrays["edges"][shapes["edges"][0] - len(edges) :].write(edges).result()
    _append_patches(arrays["patches"], first, new)


def _append_patches(array: Any, first: int, new: Sequence[Store]) -> None:
    """Patches, shard by shard: some landmarks of those new scans that share a block."""
    landmarks, edge = array.shape[1], array.shape[-1]
    at_once = max(1, AT_ONCE_BYTES // (BLOCK * edge**3 * 2))
    with Progress("pack", len(new) * landmarks, "patches") as progress:
        start = 0
        while start < len(new):
            stop = min(len(new), start + BLOCK - (first + start) % BLOCK)
            for low in range(0, landmarks, at_once):
                chosen = np.arange(low, min(low + at_once, landmarks))
                scans = np.repeat(np.arange(start, stop), len(chosen))
                values = read_patches(new, scans, np.tile(chosen, stop - start))
                values = values.reshape(stop - start, len(chosen), *values.shape[1:])
                array[first + start : first + stop, low : low + len(chosen)].write(values).result()
                progress.advance(len(scans))
            start = stop


def _shapes(cards: Sequence[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a copy whose rows have these cards."""
    shapes = {name: (len(cards), *cards[0]["shapes"][name]) for name in cards[0]["shapes"]}
    return shapes | {"edges": (sum(card["shapes"]["edges"][0] for card in cards), 2)}


def _metadata(name: str, shape: Sequence[int]) -> dict[str, Any]:
    if name == "patches":
        return zarr_metadata(name, shape, (BLOCK, 1, *shape[2:]), (1, 1, *shape[2:]))
    return zarr_metadata(name, shape, ((EDGES if name == "edges" else BLOCK), *shape[1:]))


def _open(folder: Path, name: str, shape: Sequence[int], *, write: bool = False) -> Any:
    return open_array(file_kvstore(folder / name), _metadata(name, shape), write=write)


def _read(folder: Path, name: str, shape: Sequence[int]) -> np.ndarray:
    array = _open(folder, name, shape)
    if 0 in shape:
        return np.empty(shape, array.dtype.numpy_dtype)
    try:
        return np.asarray(array.read().result())
    except READ_ERRORS as error:
        message = f"{name} of the packed copy in {folder} is missing or damaged: {cause(error)}"
        raise StoreError(message, _REMAKE) from error
