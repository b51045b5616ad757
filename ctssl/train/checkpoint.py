"""Checkpoints: one file each, written whole or not at all, the last two kept."""

import os
import re
from pathlib import Path
from typing import Any

import torch

from ctssl.errors import WeightsError
from ctssl.log import say

KEEP = 2


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write `step-*.pt`; older ones than the last two go."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:09}.pt"
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    for old in _all(folder)[:-KEEP]:
        old.unlink()


def load(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state of the latest checkpoint, on the CPU; None when there is none of this training.

    Raises:
        WeightsError: the file cannot be read.
    """
    for path in reversed(_all(folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever the damage leads to
            raise WeightsError(
                f"the checkpoint {path} cannot be read: {error}", "delete it; an older one is used then"
            ) from error
        if state["fingerprint"] == fingerprint:
            return state
        say(f"{path} belongs to a training with other settings or scans and is not used")
    return None


def clear(folder: Path) -> None:
    """Remove the checkpoints and what a killed job left of one."""
    for path in folder.glob("step-*.*"):
        path.unlink()


def _all(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+\.pt", p.name))
