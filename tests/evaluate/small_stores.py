"""Small stores of made-up patches, whose densities and texture a test chooses."""

from pathlib import Path

import numpy as np

from ctssl.store.layout import StoreArrays
from ctssl.store.writer import write_store

LANDMARKS, EDGE = 8, 8


def make_store(
    path: Path, name: str, valid: int = LANDMARKS, measures: dict | None = None, mean: float = -850
) -> None:
    """Write a store of 8 patches of 8 voxels around a mean density, the first ones valid."""
    rng = np.random.default_rng([*name.encode()])
    levels = mean + 60 * rng.normal(size=(LANDMARKS, 1, 1, 1))
    patches = (levels + rng.normal(0, 40, (LANDMARKS, EDGE, EDGE, EDGE))).astype(np.int16)
    there = np.arange(LANDMARKS) < valid
    places = np.arange(LANDMARKS)[:, None] * np.array([30.0, 0, 0])
    path.mkdir(parents=True)
    arrays = StoreArrays(patches, there, places, there * np.linspace(1, 0.3, LANDMARKS), np.empty((0, 2)))
    about = {"scan": name, "atlas": "theirs", "spacing_mm": 1.0, "axes": "LPS", "measures": measures or {}}
    write_store(path, arrays, about)
