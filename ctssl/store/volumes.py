"""What is made of boxes on other voxels: a field around a point; and keeping what takes long to make."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ctssl.errors import system_error
from ctssl.log import say
from ctssl.store.boxes import Box
from ctssl.store.handles import READ_ERRORS, cause, file_kvstore, open_array
from ctssl.store.layout import data_file, typed_metadata
from ctssl.store.resize import resized


def around(box: Box, middle: np.ndarray, extent: Sequence[int], field: np.ndarray) -> np.ndarray:
    """int16 HU on `extent` voxels along z, y, x, which share out a field around a point of a box.

    Args:
        box: beyond which there is air.
        middle: (3,) z, y, x in voxels from the box's first corner; taken to half a voxel.
        extent: new voxels along z, y, x.
        field: (3,) voxels of the box along z, y, x, fractions too.
    """
    twice = np.rint(2 * middle).astype(int)
    # beyond the box all is air: a field that is far too large is not read whole
    reach = np.maximum(twice / 2, box.shape - twice / 2) + field / extent
    low = np.floor(twice / 2 - np.minimum(field / 2, reach)).astype(int)
    return resized(box.read("volume", low, twice - low), extent, field.tolist())  # as far on both sides


def kept(folder: Path | None, name: str, extent: Sequence[int], make: Callable[[], np.ndarray]) -> np.ndarray:
    """(z, y, x) int16 HU from this folder, where they are written when they are not there, or damaged.

    Args:
        folder: None: nothing is kept.
        name: says all that the values depend on.
        extent: voxels along z, y, x.
        make: gives the values.
    """
    if folder is None:
        return make()
    place = (folder / name).resolve()
    metadata = typed_metadata(np.dtype(np.int16), extent, extent)
    if (place / data_file(extent)).is_file():
        try:
            return np.asarray(open_array(file_kvstore(place), metadata).read().result())
        except READ_ERRORS as error:
            say(f"{place} is damaged and made again: {cause(error)}")
    values = make()
    try:
        open_array(file_kvstore(place), metadata, write=True).write(values).result()
    except READ_ERRORS as error:
        raise system_error(error) or error from None
    return values
