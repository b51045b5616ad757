"""The labels that a supervised network is trained on, and what its outputs mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Task:
    """What a network is to say.

    Attributes:
        classes: in the order of the outputs; none: a number.
        weights: of each class in the loss.
        mean: of the numbers that it is trained on.
        sd: their standard deviation, by which outputs are measured.
    """

    classes: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    mean: float = 0.0
    sd: float = 1.0

    @property
    def outputs(self) -> int:
        """K: of a network for this task."""
        return len(self.classes) or 1

    def values(self, outputs: np.ndarray) -> np.ndarray:
        """(B, 1) numbers in the target's unit, or (B, K) probabilities of classes, of outputs (B, K)."""
        outputs = outputs.astype(float)
        if not self.classes:
            return self.mean + self.sd * outputs
        powers = np.exp(outputs - outputs.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))


@dataclass(frozen=True)
class Labels:
    """What is known of the scans of a fold's training part, in the order of its stores.

    Attributes:
        target: its name.
        classes: names, by number; none: the target is a number.
        values: of each scan the number, or the number of its class.
        held: whether a scan is held out, to stop by.
        weighted: whether each class counts alike.
    """

    target: str
    classes: Sequence[str]
    values: Sequence[float]
    held: Sequence[bool]
    weighted: bool = False

    def task(self) -> Task:
        """What follows from the scans that are trained on, and from no other."""
        seen = np.array(self.values, float)[~np.array(self.held, bool)]
        if not self.classes:
            # not whether sd is 0: rounding leaves 1e-17 of equal numbers
            return Task(mean=float(seen.mean()), sd=float(seen.std()) if np.ptp(seen) else 1.0)
        counts = np.bincount(seen.astype(int), minlength=len(self.classes))
        weights = np.ones(len(counts))
        if self.weighted:  # the mean over the scans stays 1
            weights = np.where(counts > 0, len(seen) / (np.maximum(counts, 1) * (counts > 0).sum()), 0.0)
        return Task(tuple(self.classes), tuple(weights.tolist()))

    def targets(self) -> np.ndarray:
        """(S,) float32 for the loss: numbers in standard deviations from the mean, or class numbers."""
        task = self.task()
        return ((np.array(self.values, float) - task.mean) / task.sd).astype(np.float32)
