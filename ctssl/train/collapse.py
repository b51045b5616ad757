"""Says when a training stops telling scans apart, which its loss alone does not show."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ctssl.config.methods import MethodOptions

STEPS = 200
"""Of a phase: below it a training that has just begun would be blamed."""

LEAST_STD = 0.05
"""Of `embedding_std`, which is 1 for directions without order. Seen: 0.015 to 0.035 in a collapse, above 0.3
in trainings that learnt."""


class CollapseWatch:
    """Looks at each row of the history; speaks once a phase.

    Args:
        tell: hears it.
        options: of the method; those that may help are named.
    """

    def __init__(self, tell: Callable[[str], None], options: MethodOptions) -> None:
        self._tell, self._options = tell, options
        self._latest: dict[str, deque[float]] = {}
        self._told: set[str] = set()

    def saw(self, row: Mapping[str, Any]) -> None:
        """Nothing; counts a row that has `embedding_std`."""
        phase, std = row["phase"], row.get("embedding_std")
        if std is None or phase in self._told:
            return
        latest = self._latest.setdefault(phase, deque(maxlen=STEPS))
        latest.append(std)
        if len(latest) == STEPS and sum(latest) < LEAST_STD * STEPS:
            self._told.add(phase)
            self._tell(
                f"the {phase} phase has collapsed: over {STEPS} steps up to step {row['step']} what a step "
                f"compares was all alike (embedding_std {sum(latest) / STEPS:.3f}, 1 is no order at all). "
                "Its features will say little, unless another of its losses, as a restoration, carries them; "
                f"try {', '.join(_advice(self._options))} or weaker augmentation"
            )


def _advice(options: MethodOptions) -> list[str]:
    """What else may help, in words: as far as the method has the options."""
    advice = ["a larger batch", "a smaller learning_rate"]
    if hasattr(options, "queue_size"):
        advice.insert(0, "a smaller queue_size")
    if not getattr(options, "batch_negatives", True):
        advice.insert(0, "batch_negatives: true")
    return advice
