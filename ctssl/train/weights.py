"""Weights that are kept: model.safetensors, and model.json, the card that says what they are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctssl.cards import open_file, read_card
from ctssl.config.methods import OPTIONS
from ctssl.errors import MachineFault, WeightsError
from ctssl.files import write_whole
from ctssl.methods import load_method
from ctssl.prepare.atlas import Atlas
from ctssl.table import CONTROL

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
    write(folder / TENSORS, embedder.state_dict(), card)


def write(path: Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Write a .safetensors file, last, and before it its card beside it (same name, .json)."""
    data = encoded(tensors)
    card = {**card, "sha256": sha256(data).hexdigest()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path.with_suffix(".json"), (json.dumps(card, indent=1, sort_keys=True) + "\n").encode())
    write_whole(path, data)


def encoded(tensors: dict[str, Tensor]) -> bytes:
    """The bytes of a .safetensors file.

    Written here, so that a training node needs no other package; reading is the library's.

    Source: the format, https://huggingface.co/docs/safetensors: eight bytes with the length of a JSON header
    (name -> dtype, shape, place of its bytes), the header padded with spaces, the values little endian.
    """
    parts, header, end = [], {}, 0
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        part = values.reshape(-1).view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": _DTYPES[values.dtype],
            "shape": list(values.shape),
            "data_offsets": [end, end + len(part)],
        }
        parts.append(part)
        end += len(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}


def load(path: Path, atlas: Atlas | None) -> Model:
    """The model in a .safetensors file with its card beside it (same name, .json).

    Args:
        path: of the .safetensors file.
        atlas: refuse weights of another one; None: whoever asks looks after that.

    Raises:
        WeightsError: a file is missing or changed, the atlas is another, or tensors do not fit.
    """
    from safetensors import SafetensorError
    from safetensors import torch as safetensors

    try:
        with open_file(path) as file:
            data = file.read()
        card = read_card(path.with_suffix(".json"))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise WeightsError(f"{path} and its .json cannot be read: {error}", _AGAIN) from error
    if sha256(data).hexdigest() != card.get("sha256"):
        raise WeightsError(f"{path} is not the file that its card describes (sha256 differs)", _AGAIN)
    if atlas is not None:
        check_atlas(path, card, atlas)
    try:
        options = OPTIONS[card["method"]].model_validate(card["options"])
        tensors = safetensors.load(data)
        method, landmarks = load_method(card["method"]), int(card["landmarks"])
        outputs = {"outputs": int(card["outputs"])} if "outputs" in card else {}  # of supervised networks
        with torch.device("meta"):  # takes no memory, however large a network the card asks for
            wanted = method.embedder(options, landmarks, **outputs).state_dict()
    except MachineFault:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path} does not fit this version of ctssl: {error!r}", _AGAIN) from error
    earlier = type(options).model_fields.keys() - card["options"].keys()
    check_fit(wanted, tensors, str(path), _EARLIER if earlier else _OTHER_MODEL)
    embedder = method.embedder(options, landmarks, **outputs)
    embedder.load_state_dict(tensors, strict=True)
    return Model(card, embedder.eval())


def check_atlas(path: Path, card: Mapping[str, Any], atlas: Atlas) -> None:
    """Nothing, when weights with this card are of this atlas, or of none but at its spacing.

    Raises:
        WeightsError: they are of another.
    """
    wanted = {"spacing_mm": atlas.spacing_mm, "landmarks": len(atlas.landmarks_mm), "atlas": atlas.id}
    if "atlas" in card and card["atlas"] is None:  # imported, of a method that sees no landmarks
        wanted = {"spacing_mm": atlas.spacing_mm}
    for key, there in wanted.items():
        if card.get(key) != there:
            raise WeightsError(
                f"{path} was trained with {key} {str(card.get(key))[:40]}, but this atlas has {there}",
                "use weights and scans of one atlas",
            )


_EARLIER = "import them again, or train again: their card is of an earlier version, with fewer options"
_OTHER_MODEL = "use weights that were made with the same method and options"


def check_fit(
    wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str, advice: str = _OTHER_MODEL
) -> None:
    """Nothing, when the tensors are all that a network holds and nothing else.

    Raises:
        WeightsError: lists the missing, unexpected and misshapen tensors, and those with NaN or infinity.
    """
    both = sorted(wanted.keys() & tensors.keys())
    alike = [name for name in both if wanted[name].shape == tensors[name].shape]
    faults = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - wanted.keys()),
        "of another shape": [
            f"{name} ({_sides(tensors[name])} for {_sides(wanted[name])})"
            for name in sorted({*both} - {*alike})
        ],
        "of another type": [name for name in both if wanted[name].dtype != tensors[name].dtype],
        "not finite": [name for name in alike if not torch.isfinite(tensors[name]).all()],
    }
    if any(faults.values()):
        lines = [f"{what}: {_listed(names)}" for what, names in faults.items() if names]
        raise WeightsError(
            f"the tensors of {source} do not fit the network:\n  " + "\n  ".join(lines), advice
        )


def _sides(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one value"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(CONTROL.sub("?", name[:100]) for name in names[:_SHOWN]) + more


_SHOWN = 40
_AGAIN = "train again, or fetch the weights with their card again"
