"""Says when a training stops telling scans apart, which its loss alone does not show."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

STEPS = 200
"""Of a phase: below it a training that has just begun would be blamed."""

LEAST_STD = 0.05
"""Of `embedding_std`, which is 1 for directions without order. Seen: 0.015 to 0.035 in a collapse, above 0.3
in trainings that learnt."""


class CollapseWatch:
    """Looks at each row of the history; speaks once a phase.

    Args:
        tell: hears it.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
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
                f"the {phase} phase has collapsed: over {STEPS} steps up to step {row['step']} the keys of a "
                f"step were all alike (embedding_std {sum(latest) / STEPS:.3f}, 1 is no order at all). Its "
                "features will say little; try batch_negatives: true, a larger batch, a smaller queue_size, "
                "a smaller learning_rate or weaker augmentation"
            )
