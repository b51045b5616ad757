"""What the training of a supervised network is given: one fold's training part, with its labels."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import compress
from typing import Any

import numpy as np

from ctssl.errors import CohortError
from ctssl.log import tell
from ctssl.methods import load_method
from ctssl.recipes import RECIPES
from ctssl.store.reader import Store
from ctssl.train.batches import Cohort
from ctssl.train.held import Held
from ctssl.train.job import PretrainJob
from ctssl.train.labels import Labels
from ctssl.train.schedule import Plan
from ctssl.train.team import Team


@dataclass(frozen=True, kw_only=True)
class FoldJob(PretrainJob):
    """One training of a supervised network. Its stores are those of the training part: it knows no test scan.

    Attributes:
        labels: of the stores, and which of them are held out to stop by.
    """

    labels: Labels

    def fingerprint(self) -> str:
        """sha256 of all that the trained weights depend on, save the machine."""
        labels = json.dumps([RECIPES["fold"], asdict(self.labels)])
        return sha256(f"{super().fingerprint()} {labels}".encode()).hexdigest()

    def usable(self, tell: Callable[[str], None] = tell) -> tuple[list[Store], Cohort]:
        """The stores that are trained on, and what samplers know of them, labels included.

        Raises:
            CohortError: a scan of a method that needs landmarks shows none.
        """
        bare = [store.scan for store in self.stores if not store.valid.any()]
        if bare and self.run.options.landmarks:  # type: ignore[attr-defined]
            raise CohortError(
                f"training needs scans that show a landmark, but these do not: {', '.join(bare)}",
                "exclude such scans in the manifest",
            )
        kept = [not held for held in self.labels.held]
        stores, subjects = list(compress(self.stores, kept)), list(compress(self.subjects, kept))
        return stores, replace(Cohort.of(stores, subjects), targets=self.labels.targets()[kept])

    def build(self) -> Any:
        """The method with fresh weights and as many outputs as the task needs."""
        return load_method(self.run.method).build(self.run.options, self.atlas, self.labels.task())

    def held(self, method: Any, cohort: Cohort, team: Team) -> Held:
        """The scans that are held out.

        Raises:
            CohortError: an epoch makes no step, so nothing would be trained.
        """
        [steps] = Plan(method.phases(), cohort, 1, self.seed).totals()
        if not steps:
            scans, subjects = len(cohort.subjects), len(np.unique(cohort.subjects))
            raise CohortError(
                f"{self.run.method} needs scans of two subjects in a step, but {scans} scan(s) of "
                f"{subjects} subject(s) are to be trained on for {self.labels.target}",
                "label more subjects, or leave this target out of the run's `targets`",
            )
        stores = list(compress(self.stores, self.labels.held))
        return Held(
            method=method,
            stores=stores,
            boxes=self.boxes_of(stores),
            targets=self.labels.targets()[np.array(self.labels.held, bool)],
            steps=steps,
            team=team,
            cache=self.cache,
        )

    def card(self, cohort: Cohort, steps: Sequence[int]) -> dict[str, Any]:
        """What goes beside the weights: that of a pretraining, and what the outputs mean."""
        task = self.labels.task()
        trained = {"target": self.labels.target, "outputs": task.outputs, "task": asdict(task)}
        return {**super().card(cohort, steps), **trained, "held_out_scans": int(sum(self.labels.held))}
