"""What one pretraining is given, and what its weights say about it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctssl import __version__
from ctssl.config.runs import Pretraining, Run
from ctssl.errors import CohortError, ConfigError
from ctssl.log import tell
from ctssl.methods import load_method
from ctssl.prepare.atlas import Atlas
from ctssl.recipes import RECIPES
from ctssl.store.boxes import Box
from ctssl.store.reader import Store
from ctssl.train.batches import Cohort
from ctssl.train.team import Team

if TYPE_CHECKING:
    from ctssl.train.held import Held


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
        boxes: scan -> box, of a method that cuts its samples from them; the scans of the stores.
        cache: folder of whole volumes on other voxels; None: none are kept.
        about: what else the card says, as `ctssl.preparation.about`: data_licence, cohort_name, preparation.
    """

    run: Run
    pretraining: Pretraining
    atlas: Atlas
    stores: Sequence[Store]
    subjects: Sequence[str]
    seed: int
    out: Path
    boxes: Mapping[str, Box] = field(default_factory=dict)
    cache: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

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
        if self.run.options.boxes:
            parts["boxes"] = [box.card["digest"] for box in self.boxes_of(self.stores)]
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

    def build(self) -> Any:
        """The method with fresh weights from torch's random numbers."""
        return load_method(self.run.method).build(self.run.options, self.atlas)

    def held(self, method: Any, cohort: Cohort, team: Team) -> "Held | None":
        """What looks at the end of each epoch whether to go on; None: all epochs are done."""
        return None

    def boxes_of(self, stores: Sequence[Store]) -> list[Box]:
        """The boxes of these scans, in order; none when the method takes its samples from the stores.

        Raises:
            ConfigError: one is not there.
        """
        if not self.run.options.boxes:
            return []
        missing = [store.scan for store in stores if store.scan not in self.boxes]
        if missing:
            raise ConfigError(
                f"{self.run.method} cuts its samples from boxes of lungs, but these scans have none: "
                f"{', '.join(missing[:10])}",
                "let the workflow write the job: its rule box makes them",
            )
        return [self.boxes[store.scan] for store in stores]

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
            "axes": self.atlas.axes,
            "patch_voxels": self.atlas.patch_voxels,
            "window_hu": [options.hu_min, options.hu_max],
            "seed": self.seed,
            "scans": len(cohort.subjects),
            "subjects": len(np.unique(cohort.subjects)),
            "cohort": self._summary(),
            "cohort_name": self.about.get("cohort_name", ""),
            "steps": list(steps),
            "precision": self.pretraining.precision,
            "ctssl": __version__,
            "data_licence": self.about.get("data_licence", ""),
            "preparation": self.about.get("preparation"),
        }

    def _summary(self) -> dict[str, list[float]]:
        """Quartiles over the scans of what is no label; nothing of so few that they would be told apart."""
        stores = [store for store in self.stores if store.valid.sum() >= 2]
        measures = [store.card.get("measures") for store in stores]  # of stores from elsewhere: anything
        laa: list[Any] = [m.get("laa_950_percent") for m in measures if isinstance(m, dict)]
        values: dict[str, list[float]] = {
            "valid_landmarks_percent": [100 * float(store.valid.mean()) for store in stores],
            "laa_950_percent": [float(v) for v in laa if _is_percent(v)],
        }
        return {
            name: [round(float(q), 2) for q in np.percentile(these, (25, 50, 75))]
            for name, these in values.items()
            if len(these) >= _ENOUGH_TO_TELL
        }


def _is_percent(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 100


_ENOUGH_TO_TELL = 8
"""Scans. Quartiles of fewer are nearly single scans' values."""
