"""What must hold of a store that may come from elsewhere, before its values take memory or are believed."""

import math
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctssl.cards import read_card
from ctssl.store.handles import file_kvstore
from ctssl.store.layout import DTYPES, GROUP, array_metadata, data_file

if TYPE_CHECKING:
    from ctssl.store.reader import Store

_SHAPES: dict[str, tuple[int | None, ...]] = {
    "patches": (None, None, None, None),
    "valid": (None,),
    "landmarks_mm": (None, 3),
    "lung_fraction": (None,),
    "edges": (None, 2),
}
_MOST_BYTES = 1 << 26  # of a patch, and of each other array: a million landmarks have less
_SLACK_BYTES = 1 << 16  # what headers and checksums may add to a file


def check_promises(path: Path, shapes: Any) -> None:
    """Nothing, when a store's arrays may have these shapes, and each file of values is a file of such a size.

    Args:
        path: of the store.
        shapes: name -> shape, as its card says.

    Raises:
        ValueError: they may not, or a file is not there; nothing was read.
    """
    if not isinstance(shapes, dict) or shapes.keys() != DTYPES.keys():
        raise ValueError("no array can be opened: its card does not hold their shapes")
    for name in DTYPES:
        try:
            _check_promise(name, shapes[name], path / GROUP / name)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise ValueError(f"{name} cannot be opened: {error}") from error


def check_metadata(path: Path, shapes: Mapping[str, list[int]]) -> None:
    """Nothing, when the metadata of a store's arrays are those that the writer gives them.

    Readers take them as known; what other tools would read must be the same.

    Raises:
        ValueError: they are others.
        FileNotFoundError: they are not there.
    """
    import tensorstore

    for name, shape in shapes.items():
        folder = path / GROUP / name
        if read_card(folder / "zarr.json").get("shape") != shape:
            raise ValueError(f"the metadata of {name} have another shape than its card says")
        spec = {
            "driver": "zarr3",
            "kvstore": file_kvstore(folder),
            "metadata": array_metadata(name, shape),
        }
        try:
            tensorstore.open(spec, read=True, open=True).result()
        except (ValueError, NotImplementedError, IndexError) as error:
            raise ValueError(f"the metadata of {name} are not as ctssl writes them: {error}") from error


def faults(store: "Store") -> Iterator[str]:
    """What cannot be in a store, whoever wrote it."""
    count, edges, valid = len(store.valid), store.edges, store.valid
    for name in ("patches", "landmarks_mm", "lung_fraction"):
        if (rows := store.card["shapes"][name][0]) != count:
            yield f"{name} has {rows} rows for {count} landmarks"
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
