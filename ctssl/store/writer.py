"""Writing a store with tensorstore: a machine that can read stores can make them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.errors import system_error
from ctssl.store.handles import file_kvstore
from ctssl.store.layout import CARD, GROUP, GROUP_METADATA, StoreArrays, array_metadata, sealed


def write_store(path: Path, arrays: StoreArrays, card: dict[str, Any]) -> dict[str, Any]:
    """The card as written, with the digest of the values.

    Chunks that hold only the fill value are written too, so that a lost shard can never read as data.

    Args:
        path: the store's directory; must exist and hold no store.
        arrays: the values.
        card: provenance; `digest`, `landmarks`, `valid`, `shapes` and `seal` are added.
    """
    named = arrays.named()
    group = path / GROUP
    group.mkdir()
    (group / "zarr.json").write_text(json.dumps(GROUP_METADATA, indent=2))
    for name, values in named.items():
        _write_array(group / name, array_metadata(name, values.shape), values)
    card = {
        **card,
        "landmarks": len(named["valid"]),
        "valid": int(named["valid"].sum()),
        "digest": arrays.digest(),
        "shapes": {name: list(values.shape) for name, values in named.items()},
    }
    card = sealed(card)
    (path / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    return card


def _write_array(path: Path, metadata: dict[str, Any], values: np.ndarray) -> None:
    import tensorstore

    spec = {
        "driver": "zarr3",
        "kvstore": file_kvstore(path),
        "metadata": metadata,
        "store_data_equal_to_fill_value": True,
    }
    try:
        array = tensorstore.open(spec, create=True, delete_existing=False).result()
        if values.size:
            array.write(values).result()
    except ValueError as error:
        raise system_error(error) or error from None
