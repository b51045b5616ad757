"""How fast a training is, and what it waits for."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


class Meter:
    """Patches a second, share of the time spent waiting for patches, memory, since the meter was made.

    Args:
        device: whose memory is told.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.patches = 0
        self.waited_s = 0.0
        self._start = time.monotonic()

    def timed(self, things: Iterable[T]) -> Iterator[T]:
        """The same things; the time until each one is there counts as waiting."""
        walk = iter(things)
        while True:
            before = time.monotonic()
            try:
                thing = next(walk)
            except StopIteration:
                return
            self.waited_s += time.monotonic() - before
            yield thing

    def count(self, patches: int) -> None:
        """Add patches that went through a step."""
        self.patches += patches

    def numbers(self) -> dict[str, float]:
        """patches_per_s, loader_wait_fraction, peak_memory_mb (of the GPU, or of this process)."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        return {
            "patches_per_s": self.patches / seconds,
            "loader_wait_fraction": self.waited_s / seconds,
            "peak_memory_mb": self._peak_mb(),
        }

    def __str__(self) -> str:
        n = self.numbers()
        return (
            f"{n['patches_per_s']:.4g} patches/s, {100 * n['loader_wait_fraction']:.0f} % waiting, "
            f"{n['peak_memory_mb']:.0f} MB"
        )

    def _peak_mb(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        return (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * (1 if sys.platform == "darwin" else 1024)
            / 1e6
        )
