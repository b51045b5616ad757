"""TensorBoard's events of a training, where tensorboard is installed; the csv file holds the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

EVENTS = "events"
"""Folder beside the weights: `tensorboard --logdir results/NAME/runs` shows all runs."""


@contextmanager
def board(folder: Path, first: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What takes a row of the history; without tensorboard it does nothing.

    Args:
        folder: of the events; those of steps from `first` on, which an interrupted training left, are hidden.
        first: number of the first step to come.
    """
    if find_spec("tensorboard") is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=first) as writer:

        def show(row: dict[str, Any]) -> None:
            for name, value in row.items():
                if name not in ("step", "phase"):
                    writer.add_scalar(f"{row['phase']}/{name}", value, row["step"])

        yield show
