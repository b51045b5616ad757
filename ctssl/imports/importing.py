"""From the files of an author to a file that runs use: read, convert, compare with the network, write."""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ctssl import __version__
from ctssl.config.methods import OPTIONS
from ctssl.config.methods.base import MethodOptions
from ctssl.errors import ConfigError, MachineFault, WeightsError
from ctssl.imports import Converted, converter
from ctssl.imports.state import State, open_state
from ctssl.methods import load_method
from ctssl.train import weights

PUBLISHED_ATLAS = "fa65ae02bbe9a738"
"""Id of the atlas that config/copdgene-atlas.yaml makes."""

PUBLISHED_LANDMARKS = 581
NOT_STATED = "not stated"

_SIGNS = {
    "drasclr": "conv1._routing_fn.fc.weight",
    "pcrl": "aug_fc1.weight",
    "models-genesis": "down_tr64.ops.0.conv1.weight",
    "context-aware": "downsample1.0.weight",
    "medicalnet": "layer1.0.conv1.weight",
    "voco": "swinViT.patch_embed.proj.weight",
}
"""Method -> a tensor that files of no method above it have."""

_ALIKE = {("pcrl", "models-genesis")}
"""(asked for, what a file seems to be) where names cannot tell: a U-Net of PCRL without its projector."""


def import_weights(
    files: Sequence[Path],
    method: str,
    out: Path,
    licence: str = NOT_STATED,
    chosen: Mapping[str, Any] | None = None,
) -> str:
    """What was done, in lines for a person; writes a .safetensors file with its card beside it.

    Args:
        files: of one model, as published.
        method: a key of LAYOUTS.
        out: the .safetensors file; neither it nor its card may be there.
        licence: of the weights, for the card.
        chosen: options of the method that no file tells, such as where windows lie.

    Raises:
        WeightsError: a file cannot be read, or is not of this method.
        ConfigError: `out` cannot be written so.
        MachineFault: a package is missing that the method needs.
    """
    _check_free(out)
    states = [open_state(path) for path in files]
    _check_method(method, states)
    made = converter(method)(states)
    names = " and ".join(str(path) for path in files)
    _check_chosen(method, chosen or {}, made.options)
    try:
        options = OPTIONS[method].model_validate({**(chosen or {}), **made.options})
        landmarks = 0 if options.boxes else PUBLISHED_LANDMARKS
        with torch.device("meta"):  # takes no memory, whatever width a file asks for
            wanted = load_method(method).embedder(options, landmarks).state_dict()
    except MachineFault:
        raise
    except (ValidationError, RuntimeError, OverflowError) as error:
        said = f"{names} describe a network that {method} has not: {str(error).splitlines()[-1][:200]}"
        raise WeightsError(said, _advice(method)) from error
    tensors, notes = _completed(wanted, _in_float32(made.tensors))
    weights.check_fit(wanted, tensors, names, _advice(method))
    card = _card(method, options, landmarks, made, files, licence)
    weights.write(out, tensors, card)
    return "\n".join([*_report(out, tensors, made.dropped), *made.notes, *notes])


def _check_free(out: Path) -> None:
    """Nothing, when there is a name for weights and card, and neither is there."""
    if out.suffix != ".safetensors":
        raise ConfigError(
            f"--out names a .safetensors file, but this is {out}", "say --out model.safetensors"
        )
    for path in (out, out.with_suffix(".json")):
        if path.exists() or path.is_symlink():
            raise ConfigError(f"{path} is there already", "choose another --out, or move it away")


def _check_chosen(method: str, chosen: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """Nothing, when the options that a person chose are the method's and not told by the files.

    Raises:
        ConfigError: says which are not.
    """
    for key in chosen:
        if told.get(key, chosen[key]) != chosen[key]:
            raise ConfigError(f"option {key} is {told[key]}, as the files tell", f"leave --option {key} out")
    try:
        OPTIONS[method].model_validate(dict(chosen))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise ConfigError(
            f"{method} has no such option {where}: {fault['msg']}", "docs/options.md lists the options"
        ) from error


def _in_float32(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same; halves and doubles become what networks here are made of."""
    return {
        n: t.float() if t.is_floating_point() and t.dtype != torch.float32 else t for n, t in tensors.items()
    }


def _completed(wanted: dict[str, Tensor], tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """With what a network computes itself, and counters of batch norm; lines that tell of the latter.

    Files of torch 0.4 have no counters.
    """
    computed = {name: value for name, value in wanted.items() if name.endswith("relative_position_index")}
    end = "num_batches_tracked"
    counters = [name for name in wanted if name.endswith(end)]
    if not counters or any(name.endswith(end) for name in tensors):
        return tensors | computed, []
    zeros = {name: torch.zeros((), dtype=torch.long) for name in counters}
    notes = [f"{len(zeros)} counters of batch norm are not in the file and start at 0"]
    return tensors | computed | zeros, notes


def _advice(method: str) -> str:
    """What to do about tensors that do not fit."""
    return f"name a file of {method} as its authors published it; fetch it again if it may be cut"


def _check_method(method: str, states: Sequence[State]) -> None:
    """Nothing, when no file is plainly one of another method."""
    for state in states:
        there = {name.removeprefix("encoder_q.") for name in state.tensors}
        seems = next((other for other, sign in _SIGNS.items() if sign in there), method)
        if seems != method and (method, seems) not in _ALIKE:
            raise WeightsError(
                f"{state.path} is a file of {seems} by the names of its tensors, not of {method}",
                f"say --method {seems}, or name another file",
            )


def _card(
    method: str, options: MethodOptions, landmarks: int, made: Converted, files: Sequence[Path], licence: str
) -> dict[str, Any]:
    """What goes beside the weights."""
    return {
        "method": method,
        "options": options.model_dump(mode="json"),
        "atlas": PUBLISHED_ATLAS if landmarks else None,
        "landmarks": landmarks,
        "spacing_mm": 1.0,
        "axes": "LAS" if landmarks else None,
        "patch_voxels": 32 if landmarks else None,
        "window_hu": [options.hu_min, options.hu_max],
        "imported": [{"file": path.name, "sha256": _sha256(path)} for path in files],
        "licence": licence,
        "ctssl": __version__,
        **made.card,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _report(out: Path, tensors: dict[str, Tensor], dropped: Counter[str]) -> list[str]:
    values = sum(tensor.numel() for tensor in tensors.values())
    lines = [f"{out}: {len(tensors)} tensors, {values:,} values, and {out.with_suffix('.json').name}"]
    if dropped:
        told = ", ".join(f"{what} ({count} tensors)" for what, count in sorted(dropped.items()))
        lines.append(f"left out, as features need none of it: {told}")
    return lines
