"""A small store, weights and a checkpoint; checksums guard their values."""

import json
from pathlib import Path

from fuzz.kind import Kind, Part
from train import synthetic

from ctssl.errors import StoreError, WeightsError

_CHEST = synthetic.atlas(4)


def _store(folder: Path) -> None:
    synthetic.write_scan(folder, 0, _CHEST)


def _read_store(folder: Path) -> str:
    """The digest of the values as training sees them, which does not ask `verify`."""
    from ctssl.store.layout import StoreArrays
    from ctssl.store.reader import open_store

    store = open_store(folder / "scan0", atlas=_CHEST.id)
    arrays = (store.patches(), store.valid, store.landmarks_mm, store.lung_fraction, store.edges)
    return StoreArrays(*arrays).digest()


def _verify(folder: Path) -> None:
    from ctssl.store.reader import verify

    verify(folder / "scan0")


def _read_and_verify(folder: Path) -> str:
    """The digest of the values as training sees them, whatever `verify` says of the metadata.

    Training takes metadata as known, so damage there may not change what it reads.
    """
    digest = _read_store(folder)
    pristine = json.loads((folder / "scan0/store.json").read_text())["digest"]
    assert digest == pristine, "metadata changed what training reads"
    _verify(folder)
    return digest


def _weights(folder: Path) -> None:
    import torch

    from ctssl.methods.context_aware import ContextAware
    from ctssl.train import weights

    torch.manual_seed(0)
    options = synthetic.options(feature_size=8)
    card = {"method": "context-aware", "options": options.model_dump(mode="json"), "atlas": _CHEST.id}
    card |= {"landmarks": len(_CHEST.landmarks_mm), "spacing_mm": _CHEST.spacing_mm}
    weights.save(folder, ContextAware.embedder(options), card)


def _load(folder: Path) -> str:
    from hashlib import sha256

    from ctssl.train import weights

    state = weights.load(folder / "model.safetensors", _CHEST).embedder.state_dict()
    values = [f"{name} {tensor.shape}".encode() + tensor.numpy().tobytes() for name, tensor in state.items()]
    return sha256(b"".join(values)).hexdigest()


def _checkpoint(folder: Path) -> None:
    import torch

    from ctssl.train import checkpoint

    method = {"weight": torch.arange(64.0).reshape(8, 8), "queue": torch.ones(13)}
    state = {"fingerprint": "f", "done": 7, "method": method, "optimisers": [], "history_bytes": 0}
    checkpoint.save(folder, 7, state)


def _resume(folder: Path) -> str:
    from ctssl.train import checkpoint

    state = checkpoint.load(folder, "f")
    return "none of this training" if state is None else repr(state)


def store_kinds() -> dict[str, Kind]:
    """What a study makes and reads again."""
    card = Part("scan0/store.json", text=True)
    arrays = Part("scan0/store.zarr/*/zarr.json", text=True)
    return {
        "store card": Kind(_store, (card,), _read_store, (StoreError,), same=True),
        "store metadata": Kind(_store, (arrays,), _read_and_verify, (StoreError,), same=True),
        "store values": Kind(
            _store, (Part("scan0/store.zarr/*/c/**/*", 0),), _read_store, (StoreError,), same=True
        ),
        "store verified": Kind(
            _store, (card, arrays, Part("scan0/store.zarr/*/c/**/*", 0)), _verify, (StoreError,)
        ),
        "weights": Kind(
            _weights,
            (Part("model.json", text=True), Part("model.safetensors", 2000, True)),
            _load,
            (WeightsError,),
            same=True,
        ),
        "checkpoint": Kind(
            _checkpoint, (Part("step-*.pt", 0), Part("step-*.pt", 700)), _resume, (WeightsError,), same=True
        ),
    }
