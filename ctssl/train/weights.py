"""Weights that are kept: model.safetensors, and model.json, the card that says what they are."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from ctssl.config.methods import OPTIONS
from ctssl.errors import WeightsError
from ctssl.methods import load_method
from ctssl.prepare.atlas import Atlas

TENSORS = "model.safetensors"
CARD = "model.json"


@dataclass(frozen=True)
class Model:
    """Weights in their network.

    Attributes:
        card: method, options, atlas, landmarks, window_hu, spacing_mm, seed, scans, sha256, ...
        embedder: the network, in evaluation mode on the CPU.
    """

    card: dict[str, Any]
    embedder: Any


def save(folder: Path, embedder: nn.Module, card: dict[str, Any]) -> None:
    """Write the card (with the sha256 of the weights) and then, last, the weights."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in embedder.state_dict().items()}
    data = safetensors.save(tensors)
    card = {**card, "sha256": sha256(data).hexdigest()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    part = folder / f"{TENSORS}.part"
    part.write_bytes(data)
    part.replace(folder / TENSORS)


def load(path: Path, atlas: Atlas) -> Model:
    """The model in a .safetensors file with its card beside it (same name, .json).

    Raises:
        WeightsError: a file is missing or changed, the atlas is another, or tensors do not fit.
    """
    try:
        data = path.read_bytes()
        card = json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} and its .json cannot be read: {error}", _AGAIN) from error
    if sha256(data).hexdigest() != card.get("sha256"):
        raise WeightsError(f"{path} is not the file that its card describes (sha256 differs)", _AGAIN)
    for key, there in (
        ("spacing_mm", atlas.spacing_mm),
        ("landmarks", len(atlas.landmarks_mm)),
        ("atlas", atlas.id),
    ):
        if card.get(key) != there:
            raise WeightsError(
                f"{path} was trained with {key} {card.get(key)}, but this atlas has {there}",
                "use weights and scans of one atlas",
            )
    try:
        options = OPTIONS[card["method"]].model_validate(card["options"])
        tensors = safetensors.load(data)
    except (KeyError, ValidationError, SafetensorError) as error:
        raise WeightsError(f"{path} does not fit this version of ctssl: {error!r}", _AGAIN) from error
    embedder = load_method(card["method"]).embedder(options)
    fill(embedder, tensors, str(path))
    return Model(card, embedder.eval())


def fill(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Put tensors into a module, all of them and nothing else.

    Raises:
        WeightsError: lists the missing, unexpected and misshapen tensors.
    """
    wanted = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    faults = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - wanted.keys()),
        "of another shape": sorted(
            n for n in wanted.keys() & tensors.keys() if wanted[n] != tuple(tensors[n].shape)
        ),
    }
    if any(faults.values()):
        lines = [f"{what}: {', '.join(names)}" for what, names in faults.items() if names]
        raise WeightsError(
            f"the tensors of {source} do not fit the network:\n  " + "\n  ".join(lines),
            "use weights that were made with the same method and options",
        )
    module.load_state_dict(tensors, strict=True)


_AGAIN = "train again, or fetch the weights with their card again"
