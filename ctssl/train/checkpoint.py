"""Checkpoints: one file each, written whole or not at all, the latest kept.

Of a finished training one stays that holds its weights alone: Snakemake deletes the outputs of a job that is
killed at its very end, and whoever starts it again gets them without training again.
"""

import io
import re
from collections.abc import Callable
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

FINISHED_KEYS = {"fingerprint", "done", "query", "history_bytes"}
"""What the state of a finished training holds."""

FINISHED = "finished.pt"
"""Its file."""

_DIGEST = 64  # characters of a sha256
# What torch raises for what is no checkpoint; all else, such as a disk that cannot be read, comes through.
_DAMAGE = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, UnpicklingError)


def save(folder: Path, step: int, state: dict[str, Any], *, keep: int = 2) -> None:
    """Write `step-*.pt`; older ones than the last `keep` go."""
    _write(folder / f"step-{step:09}.pt", state)
    for old in _all(folder)[:-keep]:
        old.unlink()


def finish(folder: Path, state: dict[str, Any]) -> None:
    """Write `finished.pt`, which takes the place of all checkpoints."""
    _write(folder / FINISHED, state)
    _remove(folder, "step-*.*")


def _write(path: Path, state: dict[str, Any]) -> None:
    """Write the sha256 of a state and then the state."""
    data = io.BytesIO()
    data.write(bytes(_DIGEST))
    torch.save(state, data)  # into a file, torch would hide the system's word on a full disk
    with data.getbuffer() as whole:
        whole[:_DIGEST] = _digest(whole[_DIGEST:])
        write_whole(path, whole)


def load(folder: Path, fingerprint: str, say: Callable[[str], None] = say) -> dict[str, Any] | None:
    """The state of the latest checkpoint, on the CPU; None when there is none of this training.

    Args:
        folder: of the checkpoints.
        fingerprint: of the training.
        say: hears of checkpoints of other trainings.

    Raises:
        WeightsError: the file is damaged, or no checkpoint of this version.
    """
    for path in reversed([*_all(folder), *folder.glob(FINISHED)]):
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
    if not isinstance(state, dict) or state.keys() not in (KEYS, FINISHED_KEYS):
        raise ValueError("it is none of ctssl's")
    return state


def _digest(data: memoryview) -> bytes:
    return sha256(data).hexdigest().encode()


def sweep(folder: Path) -> None:
    """Remove what killed jobs left of files they were writing, each as large as a checkpoint.

    Only for the process that writes here.
    """
    _remove(folder, "*.pt.*.part")


def clear(folder: Path) -> None:
    """Remove the checkpoints and what a killed job left of one."""
    _remove(folder, "step-*.*")
    _remove(folder, f"{FINISHED}*")


def _remove(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink()


def _all(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+\.pt", p.name))
