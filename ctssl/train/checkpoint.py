"""Checkpoints: one file each, written whole or not at all, the latest kept."""

import io
import re
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ctssl.cards import open_file
from ctssl.errors import WeightsError
from ctssl.files import write_whole
from ctssl.log import say

KEYS = {"fingerprint", "done", "method", "optimisers", "history_bytes"}
"""What a state holds."""

_DIGEST = 64  # characters of a sha256
# What torch raises for what is no checkpoint; all else, such as a disk that cannot be read, comes through.
_DAMAGE = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, UnpicklingError)


def save(folder: Path, step: int, state: dict[str, Any], *, keep: int = 2) -> None:
    """Write `step-*.pt`, the sha256 of the state and then the state; older ones than the last `keep` go."""
    data = io.BytesIO()
    data.write(bytes(_DIGEST))
    torch.save(state, data)  # into a file, torch would hide the system's word on a full disk
    with data.getbuffer() as whole:
        whole[:_DIGEST] = _digest(whole[_DIGEST:])
        write_whole(folder / f"step-{step:09}.pt", whole)
    for old in _all(folder)[:-keep]:
        old.unlink()


def load(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state of the latest checkpoint, on the CPU; None when there is none of this training.

    Raises:
        WeightsError: the file is damaged, or no checkpoint of this version.
    """
    for path in reversed(_all(folder)):
        try:
            state = _read(path)
        except _DAMAGE as error:
            raise WeightsError(
                f"the checkpoint {path} cannot be read: {error}",
                "delete it; an older one is used then, or the training starts anew",
            ) from error
        if state["fingerprint"] == fingerprint:
            return state
        say(f"{path} belongs to a training with other settings or scans and is not used")
    return None


def _read(path: Path) -> dict[str, Any]:
    with open_file(path) as file:
        data = memoryview(file.read())
    if data[:_DIGEST] != _digest(data[_DIGEST:]):
        raise ValueError("it is damaged, or of another version of ctssl")
    state = torch.load(io.BytesIO(data[_DIGEST:]), map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.keys() != KEYS:
        raise ValueError("it is none of ctssl's")
    return state


def _digest(data: memoryview) -> bytes:
    return sha256(data).hexdigest().encode()


def clear(folder: Path) -> None:
    """Remove the checkpoints and what a killed job left of one."""
    for path in folder.glob("step-*.*"):
        path.unlink()


def _all(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+\.pt", p.name))
