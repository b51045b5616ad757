"""One handle on the patches of many scans, however many there are.

A cohort's shards are read as if they were one zarr array (S, N, E, E, E) of scans by landmarks: tensorstore's
kvstack driver finds the shard of scan s where that array would have it, and the array's metadata is known,
so that opening thousands of stores opens no file. A batch is one call, whatever scans it names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.store.layout import zarr_metadata

CACHE_BYTES = 32 * 2**20
"""Of shard indices, and of the patches that pass by. A round of training walks over all landmarks of the same
hundred scans: their indices stay, while patches, which are read once a round, push each other out."""

READ_ERRORS = (ValueError, RuntimeError, LookupError, OSError)
"""What tensorstore raises for data that are missing or damaged; which of them depends on the byte."""


@dataclass(frozen=True)
class Patches:
    """The patches of some scans on disk.

    Attributes:
        array: (S, N, E, E, E) int16 HU, axes scan, landmark, z, y, x; read when asked.
    """

    array: Any

    @property
    def edge(self) -> int:
        """E, voxels along each edge of a patch."""
        return int(self.array.shape[-1])

    def read_into(
        self, out: np.ndarray, at: np.ndarray | None, rows: np.ndarray, landmarks: np.ndarray
    ) -> Any:
        """A future; when it is done, out[at[b]] is patch landmarks[b] of scan rows[b].

        Args:
            out: (B, E, E, E) int16.
            at: (b,) places in it; None: all, in order.
            rows: (b,) scans of this array.
            landmarks: (b,).
        """
        import tensorstore

        target = tensorstore.array(out)
        source = self.array.vindex[rows, landmarks]
        return (target if at is None else target.oindex[at]).write(source)


def over_shards(shards: Sequence[Path], shape: Sequence[int]) -> Patches:
    """The patches of scans that have a shard each.

    Args:
        shards: the files; looked at when patches are read.
        shape: (N, E, E, E) of one scan's patches.
    """
    metadata = zarr_metadata("patches", (len(shards), *shape), (1, *shape), (1, 1, *shape[1:]))
    layers = [
        {"exact": f"c/{row}/0/0/0/0", "base": {"driver": "file", "path": str(path)}}
        for row, path in enumerate(shards)
    ]
    return Patches(open_array({"driver": "kvstack", "layers": layers}, metadata))


def open_array(kvstore: dict[str, Any], metadata: dict[str, Any], *, write: bool = False) -> Any:
    """The array with this metadata, taken as known; no file is read, and missing data are an error."""
    import tensorstore

    spec = {
        "driver": "zarr3",
        "kvstore": kvstore,
        "metadata": metadata,
        "fill_missing_data_reads": False,
        "store_data_equal_to_fill_value": True,
        "recheck_cached_data": "open",  # else every read asks for the time of the file
    }
    return tensorstore.open(
        spec, context=_context(), read=True, write=write, open=True, assume_metadata=True
    ).result()


def file_kvstore(path: Path) -> dict[str, Any]:
    """A folder as tensorstore names it; it takes no path with .. inside."""
    return {"driver": "file", "path": f"{path.resolve()}/"}


def cause(error: Exception) -> str:
    """What tensorstore says, without the description of the array, which names every file of a cohort."""
    return re.split(r" \[[\w ]+='", str(error))[0]


@cache
def _context() -> Any:
    """Shared by all arrays, so that the cache is bounded for a process and not for an array."""
    import tensorstore

    return tensorstore.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}})
