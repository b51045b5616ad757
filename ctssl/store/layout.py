"""What a store looks like on disk.

STORE/status.json     whether the scan has a store
STORE/store.zarr/     zarr v3 group
    patches           (N, S, S, S) int16, HU, axes landmark, z, y, x; air where not valid. S is the atlas's
                      patch_voxels
    valid             (N,) bool
    landmarks_mm      (N, 3) float64, x, y, z in LPS mm of the scan: the patch centres
    lung_fraction     (N,) float32, share of lung voxels in the patch; 0 where not valid
    edges             (E, 2) int64, pairs of valid landmarks, smaller index first, no self loops
STORE/store.json      the card, written last: digest of the values and where they come from
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

GROUP = "store.zarr"
CARD = "store.json"
AIR_HU = -1024

DTYPES = {
    "patches": np.dtype(np.int16),
    "valid": np.dtype(bool),
    "landmarks_mm": np.dtype(np.float64),
    "lung_fraction": np.dtype(np.float32),
    "edges": np.dtype(np.int64),
}
"""The type of each array, in the order that the digest reads them."""

GROUP_METADATA: dict[str, Any] = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
"""zarr.json of the group."""


@dataclass(frozen=True)
class StoreArrays:
    """The values of one store; shapes and axes as in this module's head."""

    patches: np.ndarray
    valid: np.ndarray
    landmarks_mm: np.ndarray
    lung_fraction: np.ndarray
    edges: np.ndarray

    def named(self) -> dict[str, np.ndarray]:
        """The arrays by name, in the order that the digest reads them."""
        named = {name: np.ascontiguousarray(getattr(self, name), dtype) for name, dtype in DTYPES.items()}
        return {**named, "edges": named["edges"].reshape(-1, 2)}

    def digest(self) -> str:
        """sha256 over names, shapes and values (little endian), independent of chunks and codecs."""
        state = sha256()
        for name, array in self.named().items():
            state.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            state.update(array.tobytes())
        return state.hexdigest()


def array_metadata(name: str, shape: Sequence[int]) -> dict[str, Any]:
    """The type, chunks and codecs of one array, as zarr v3 writes them.

    Patches get one inner chunk each, all in one shard; other arrays are one chunk. Every chunk is
    bitshuffle + lz4 + crc32c.
    """
    dtype = DTYPES[name]
    whole = [max(1, n) for n in shape]
    codecs = _codecs(dtype)
    if name == "patches":
        inner = {"chunk_shape": [1, *whole[1:]], "codecs": codecs, "index_codecs": [_BYTES, _CRC]}
        codecs = [{"name": "sharding_indexed", "configuration": {**inner, "index_location": "end"}}]
    return {
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": whole}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": dtype.type(0).item(),
        "codecs": codecs,
        "attributes": {},
    }


_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}


def data_file(shape: Sequence[int]) -> str:
    """The file of an array's only chunk or shard, from the array's folder on."""
    return "/".join(["c", *"0" * len(shape)])


def _codecs(dtype: np.dtype) -> list[dict[str, Any]]:
    blosc = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "typesize": dtype.itemsize, "blocksize": 0}
    plain = _BYTES if dtype.itemsize > 1 else {"name": "bytes"}
    return [plain, {"name": "blosc", "configuration": blosc}, _CRC]
