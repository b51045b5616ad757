"""Scans that are held out of a supervised training: their loss after each epoch, and when to stop."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctssl.errors import CtsslError
from ctssl.methods.supervised import errors
from ctssl.store.boxes import Box
from ctssl.store.reader import Store
from ctssl.train.batches import Batch, Cohort, prefetched, read_batch, scan_sample
from ctssl.train.cuts import embedded_cuts
from ctssl.train.schedule import Step
from ctssl.train.team import Team


def whole_scan(network: Any, store: Store, box: Box | None, cache: Path | None) -> Batch:
    """What a network is given of one scan, without augmentation.

    Args:
        network: with an attribute `cut`, if it sees what is cut from boxes.
        store: of the scan.
        box: of its lungs, for a network with a `cut`.
        cache: folder of whole volumes on other voxels; None: none are kept.
    """
    cut = getattr(network, "cut", None)
    if cut is not None:
        assert box is not None, "who opens stores for such a network opens boxes, too"
        return embedded_cuts(box, cut, cache, store)
    cohort = Cohort(store.valid[None], np.zeros(1, np.int64))
    return read_batch([store], cohort, scan_sample(cohort, np.zeros(1, np.int64)))


@dataclass(frozen=True)
class Held:
    """Looks at the end of each epoch how a supervised method does on scans that it is not trained on.

    Attributes:
        method: that is trained (ctssl.methods.supervised).
        stores: of the scans held out; none: all epochs are done, and the last state is kept.
        boxes: of each, for a method that needs them; else none.
        targets: (H,) for the loss.
        steps: of an epoch: rounds that make none are not counted.
        team: whose member this is; each looks at its share.
        cache: folder of whole volumes on other voxels.
    """

    method: Any
    stores: Sequence[Store]
    boxes: Sequence[Box]
    targets: np.ndarray
    steps: int
    team: Team
    cache: Path | None

    def after(self, step: Step, settle: Callable[[int], None]) -> dict[str, float]:
        """What the step's row of the history gets: at the end of an epoch the validation loss.

        Args:
            step: that was done.
            settle: makes the running statistics those of so many last steps with the weights as they are.
                Means that follow slowly belong to weights that are gone: in an epoch of four steps the loss
                was 57 by these, and 0.03 by those (seen).

        Raises:
            CtsslError: the validation loss is no number.
        """
        if (step.of_phase + 1) % self.steps:
            return {}
        settle(self.steps)
        if not self.stores:
            self.method.after_epoch(None)
            return {}
        loss = self.loss()
        if not math.isfinite(loss):
            raise CtsslError(
                f"the validation loss is {loss} after step {step.number}",
                "use a smaller options.learning_rate or a clip_norm for this run, or pretraining.precision: "
                "fp32",
            )
        self.method.after_epoch(loss)
        return {"validation_loss": loss}

    def enough(self) -> bool:
        """Whether training should stop."""
        return int(self.method.waited) >= self.method.options.patience

    def loss(self) -> float:
        """The mean loss of the scans held out; equal on all devices."""
        device, network = self.method.best.device, self.method.network
        total = torch.zeros((), dtype=torch.float64, device=device)
        mine = range(self.team.rank, len(self.stores), self.team.size)
        for number, batch in prefetched(mine, self._read):
            target = torch.from_numpy(self.targets[number : number + 1]).to(device)
            total += errors(network.predict(batch.to(device)), target, self.method.task)[0]
        return float(self.team.summed(total)) / len(self.stores)

    def _read(self, number: int) -> Batch:
        box = self.boxes[number] if self.boxes else None
        return whole_scan(self.method.network, self.stores[number], box, self.cache)
