"""Writing a store with zarr-python."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.store.layout import CARD, GROUP, StoreArrays


def write_store(path: Path, arrays: StoreArrays, card: dict[str, Any]) -> dict[str, Any]:
    """The card as written, with the digest of the values.

    Patches get one inner chunk each, all in one shard, bitshuffle + lz4 + crc32c; chunks that hold
    only air are written too, so that a lost shard can never read as air.

    Args:
        path: the store's directory; must exist and hold no store.
        arrays: the values.
        card: provenance; `digest`, `landmarks` and `valid` are added.
    """
    import zarr

    named = arrays.named()
    group = zarr.create_group(path / GROUP, zarr_format=3)
    for name, values in named.items():
        _write_array(group, name, values)
    card = {
        **card,
        "landmarks": len(named["valid"]),
        "valid": int(named["valid"].sum()),
        "digest": arrays.digest(),
    }
    (path / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    return card


def _write_array(group: Any, name: str, values: np.ndarray) -> None:
    from zarr.codecs import BloscCodec, Crc32cCodec

    patches = name == "patches"
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(1, *values.shape[1:]) if patches else tuple(max(1, n) for n in values.shape),
        shards=values.shape if patches else None,
        compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    if values.size:
        array[...] = values
