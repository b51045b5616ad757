"""What a store looks like on disk.

STORE/status.json     whether the scan has a store
STORE/store.zarr/     zarr v3 group
    patches           (N, S, S, S) int16, HU, axes landmark, z, y, x; air where not valid. S is the atlas's
                      patch_voxels
    valid             (N,) bool
    landmarks_mm      (N, 3) float64, x, y, z in LPS mm of the scan: the patch centres
    lung_fraction     (N,) float32, share of lung voxels in the patch; 0 where not valid
    edges             (E, 2) int64, pairs of valid landmarks, smaller index first, no self loops
STORE/store.json      the card, written last: digest of the values, shapes, where they come from, and a seal
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

GROUP = "store.zarr"
CARD = "store.json"
AIR_HU = -1024

GROUP_METADATA: dict[str, Any] = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
"""zarr.json of the group."""

DTYPES = {
    "patches": np.dtype(np.int16),
    "valid": np.dtype(bool),
    "landmarks_mm": np.dtype(np.float64),
    "lung_fraction": np.dtype(np.float32),
    "edges": np.dtype(np.int64),
}
"""Of each array, in the order that the digest reads them."""

SMALL = tuple(name for name in DTYPES if name != "patches")
"""The arrays that are read when a store is opened."""


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
        arrays = {name: np.ascontiguousarray(getattr(self, name), DTYPES[name]) for name in DTYPES}
        return arrays | {"edges": arrays["edges"].reshape(-1, 2)}

    def digest(self) -> str:
        """sha256 over names, shapes and values (little endian), independent of chunks and codecs."""
        state = sha256()
        for name, array in self.named().items():
            state.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            state.update(array.tobytes())
        return state.hexdigest()


def sealed(card: dict[str, Any]) -> dict[str, Any]:
    """The card with its seal: a sha256 of all else, which shows damage to any of it."""
    return {**card, "seal": _seal(card)}


def check_seal(card: dict[str, Any]) -> None:
    """Nothing, when a card is what was sealed.

    Raises:
        ValueError: it is not.
    """
    if "seal" not in card:
        raise ValueError("it has no seal, as an unfinished card or one of an older version")
    if card["seal"] != _seal(card):
        raise ValueError("its seal does not fit: it was changed or damaged")


def _seal(card: dict[str, Any]) -> str:
    rest = {key: value for key, value in card.items() if key != "seal"}
    return sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def array_metadata(name: str, shape: Sequence[int]) -> dict[str, Any]:
    """The chunks and codecs of one array of a store, as zarr v3 writes them.

    Patches get one inner chunk each, all in one shard; other arrays are one chunk.
    """
    return zarr_metadata(name, shape, shape, (1, *shape[1:]) if name == "patches" else None)


def zarr_metadata(
    name: str, shape: Sequence[int], chunk: Sequence[int], inner: Sequence[int] | None = None
) -> dict[str, Any]:
    """The zarr.json of an array that holds values as those of this name; with `inner`, chunks are shards."""
    return typed_metadata(DTYPES[name], shape, chunk, inner)


def typed_metadata(
    dtype: np.dtype, shape: Sequence[int], chunk: Sequence[int], inner: Sequence[int] | None = None
) -> dict[str, Any]:
    """The zarr.json of an array of this type; with `inner`, chunks are shards.

    Every chunk is bitshuffle + lz4hc + crc32c. Of real and synthetic patches that leaves 0.56 to 0.60 of the
    bytes; lz4 leaves 0.59 to 0.62 and reads as fast, zstd 0.54 to 0.58 and takes twice as long to read.
    Whole bytes shuffled (lz4hc 9) read 1.1 times as fast at this size, and take eight times as long to write.
    """
    codecs = _codecs(dtype)
    if inner is not None:
        shard = {"chunk_shape": list(inner), "codecs": codecs, "index_codecs": [_BYTES, _CRC]}
        codecs = [{"name": "sharding_indexed", "configuration": {**shard, "index_location": "end"}}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(1, n) for n in chunk]}},
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
    size = dtype.itemsize
    blosc = {"cname": "lz4hc", "clevel": 5, "shuffle": "bitshuffle", "typesize": size, "blocksize": 0}
    plain = _BYTES if size > 1 else {"name": "bytes"}
    return [plain, {"name": "blosc", "configuration": blosc}, _CRC]
