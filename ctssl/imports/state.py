"""The tensors of a file by name, out of the wrappers that trainings put around them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctssl.errors import WeightsError
from ctssl.imports.checkpoint import read_checkpoint
from ctssl.table import CONTROL

_WRAPPERS = ("state_dict", "network_weights", "net", "student")

_BESIDE = {
    "contrast": "memory of the contrast",
    "model_ema": "momentum network",
    "optimizer": "optimizer state",
    "optimizer_state_dict": "optimizer state",
    "scaler": "loss scale",
    "scheduler": "schedule",
}
"""Entries beside the tensors that training needs, and their words."""

MOCO = {r"encoder_k\.": "momentum encoder", r"queue(_ptr)?$": "queues"}
"""What the releases that contrast with momentum save beside the encoder."""

_WRONG = "is it the file that its authors published? --method names the method that it was trained with"


@dataclass(frozen=True)
class State:
    """The tensors of one file.

    Attributes:
        path: of the file.
        tensors: by name.
        dropped: what was left out knowingly -> how many tensors.
    """

    path: Path
    tensors: dict[str, Tensor]
    dropped: Counter[str]

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor; () when there is none of this name."""
        return tuple(self.tensors[name].shape) if name in self.tensors else ()

    def without(self, patterns: Mapping[str, str]) -> "State":
        """The same without the tensors whose name starts with a pattern; pattern -> what they are."""
        kept, dropped = {}, Counter(self.dropped)
        for name, tensor in self.tensors.items():
            what = next((word for pattern, word in patterns.items() if re.match(pattern, name)), None)
            if what is None:
                kept[name] = tensor
            else:
                dropped[what] += 1
        return State(self.path, kept, dropped)

    def stripped(self, *prefixes: str) -> "State":
        """The same, these prefixes taken from the front of each name, also several.

        Raises:
            WeightsError: two tensors come to one name.
        """
        found: dict[str, Tensor] = {}
        for name, tensor in self.tensors.items():
            short = re.sub(f"^(?:{'|'.join(map(re.escape, prefixes))})+", "", name)
            if short in found:
                raise WeightsError(f"{self.path} holds {shown(short)} twice, under several prefixes", _WRONG)
            found[short] = tensor
        return State(self.path, found, self.dropped)

    def renamed(self, names: Mapping[str, str]) -> dict[str, Tensor]:
        """Name -> tensor, in each name the texts on the left replaced by those on the right.

        Raises:
            WeightsError: two tensors come to one name.
        """
        found: dict[str, Tensor] = {}
        for name, tensor in self.tensors.items():
            for old, new in names.items():
                name = name.replace(old, new)
            if name in found:
                raise WeightsError(f"{self.path} holds {shown(name)} twice, in an old and a new form", _WRONG)
            found[name] = tensor
        return found


def open_state(path: Path) -> State:
    """The tensors of a file, without wrappers and without the prefix of data parallel training.

    Raises:
        WeightsError: the file cannot be read, or holds something else.
    """
    content = read_checkpoint(path)
    inner = next((key for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
    tensors, dropped = content, Counter[str]()
    if inner is not None:
        tensors = content[inner]
        for key, value in content.items():
            count = _count(value) if key != inner else 0
            if count and key not in _BESIDE:
                raise WeightsError(
                    f"{path} holds {count} tensors in {shown(key)}, beside those in {inner}", _WRONG
                )
            if count:
                dropped[_BESIDE[key]] += count
    faults = [f"{shown(name)} ({why})" for name, value in tensors.items() if (why := _fault(name, value))]
    if faults or not tensors:
        some = ", ".join(faults[:8]) + (f" and {len(faults) - 8} more" if len(faults) > 8 else "")
        raise WeightsError(
            f"{path} should hold tensors by name, but holds {some or 'nothing'}",
            "name a file with a state_dict, which keeps weights and no objects",
        )
    plain = {name: tensor.detach() for name, tensor in tensors.items()}
    return State(path, plain, dropped).stripped("module.")


def one(states: Sequence[State]) -> State:
    """The state of the one file of a model.

    Raises:
        WeightsError: there are several.
    """
    if len(states) != 1:
        raise WeightsError(
            f"{len(states)} files came, but a model of this method is one file", "import them one by one"
        )
    return states[0]


def shown(name: object) -> str:
    """A name from a file, as a person may see it."""
    return CONTROL.sub("?", str(name) if isinstance(name, str | int) else type(name).__name__)[:100]


def _fault(name: object, value: object) -> str:
    """Why this entry is no weight; empty when it is one."""
    if not isinstance(name, str):
        return "no name"
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if (
        value.layout != torch.strided
        or value.is_quantized
        or value.is_complex()
        or value.device.type != "cpu"
    ):
        return "no plain tensor"
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        return "promises more values than the file has"
    return ""


def _count(value: Any) -> int:
    """How many tensors there are in an entry, however deep."""
    waiting, seen, count = [value], set[int](), 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            count += 1
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    return count
