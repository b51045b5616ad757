"""What one pretraining is given, and what its weights say about it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ctssl import __version__
from ctssl.config.study import Pretraining, Run
from ctssl.errors import CohortError
from ctssl.log import tell
from ctssl.prepare.atlas import Atlas
from ctssl.recipes import RECIPES
from ctssl.store.reader import Store
from ctssl.train.batches import Cohort


@dataclass(frozen=True)
class PretrainJob:
    """One pretraining.

    Attributes:
        run: method and options.
        pretraining: device, threads, precision, checkpoint_steps.
        atlas: whose landmarks the stores have.
        stores: the scans to train on.
        subjects: the subject of each store.
        seed: of weights, order and augmentation.
        out: folder for history.csv, model.json, model.safetensors and checkpoints.
    """

    run: Run
    pretraining: Pretraining
    atlas: Atlas
    stores: Sequence[Store]
    subjects: Sequence[str]
    seed: int
    out: Path

    def fingerprint(self) -> str:
        """sha256 of all that the trained weights depend on, save the machine."""
        rows = zip(self.stores, self.subjects, strict=True)
        parts = {
            "recipe": RECIPES["pretrain"],
            "run": [self.run.method, self.run.options.model_dump(mode="json")],
            "precision": self.pretraining.precision,
            "atlas": self.atlas.id,
            "scans": [[store.scan, store.card["digest"], subject] for store, subject in rows],
            "seed": self.seed,
        }
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def usable(self, tell: Callable[[str], None] = tell) -> tuple[list[Store], Cohort]:
        """The stores that show two landmarks or more, and what samplers know of them.

        Args:
            tell: hears of each that is left out.

        Raises:
            CohortError: they are of fewer than two subjects.
        """
        stores, subjects = [], []
        for store, subject in zip(self.stores, self.subjects, strict=True):
            if store.valid.sum() < 2:
                tell(f"{store.scan} shows fewer than two landmarks and is not trained on")
                continue
            stores.append(store)
            subjects.append(subject)
        if len(set(subjects)) < 2:
            raise CohortError(
                "pretraining contrasts subjects and needs at least 2, "
                f"but {len(stores)} usable scans of {len(set(subjects))} came",
                "add scans to the manifest, see failures.csv for excluded ones, or give the run weights",
            )
        return stores, Cohort.of(stores, subjects)

    def card(self, cohort: Cohort, steps: Sequence[int]) -> dict[str, Any]:
        """What goes beside the weights; `steps` are those of each phase."""
        options = self.run.options
        return {
            "run": self.run.name,
            "method": self.run.method,
            "options": options.model_dump(mode="json"),
            "atlas": self.atlas.id,
            "landmarks": len(self.atlas.landmarks_mm),
            "spacing_mm": self.atlas.spacing_mm,
            "window_hu": [options.hu_min, options.hu_max],
            "seed": self.seed,
            "scans": len(cohort.subjects),
            "subjects": len(np.unique(cohort.subjects)),
            "steps": list(steps),
            "precision": self.pretraining.precision,
            "ctssl": __version__,
        }
