"""A small study of stores that were made elsewhere: two scans, of which a test damages the second."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import yaml

from ctssl import config, settings
from ctssl.jobs import cohort
from ctssl.jobs.status import Status
from ctssl.manifest import read_manifest
from ctssl.prepare.atlas import Atlas, write_card
from ctssl.store.layout import StoreArrays, sealed
from ctssl.store.writer import write_store

GOOD, BAD = "anna", "berta"
LANDMARKS, EDGE = 5, 16


def atlas(name: str = "theirs", landmarks: int = LANDMARKS, edge: int = EDGE) -> Atlas:
    places = np.arange(landmarks)[:, None] * np.array([30.0, 0, 0])
    near = np.stack([np.arange(landmarks - 1), np.arange(1, landmarks)], 1)
    return Atlas(name, "LPS", 1.0, 30.0, places, near, patch_voxels=edge)


def arrays(seed: int, chest: Atlas | None = None) -> dict[str, np.ndarray]:
    """The values of a store, by name; landmark 0 is not valid."""
    chest = chest or atlas()
    rng = np.random.default_rng(seed)
    count, edge = len(chest.landmarks_mm), chest.patch_voxels
    valid = np.arange(count) > 0
    return {
        "patches": rng.integers(-1000, 200, (count, edge, edge, edge)).astype(np.int16),
        "valid": valid,
        "landmarks_mm": chest.landmarks_mm,
        "lung_fraction": valid.astype(np.float32),
        "edges": chest.neighbours[valid[chest.neighbours].all(1)],
    }


def deliver(folder: Path, scan: str, seed: int = 1, about: dict | None = None, **changed: np.ndarray) -> None:
    """Write a scan's store and status, with these arrays in place of its own; what lay there is removed."""
    path = folder / "stores" / scan
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    card = {"scan": scan, "atlas": "theirs", "spacing_mm": 1.0, "measures": {"laa_950_percent": 3.0}}
    written = write_store(path, StoreArrays(**(arrays(seed) | changed)), card | (about or {}))
    Status(scan, True, "store", numbers={"digest": written["digest"]}).write(path)


def make(folder: Path) -> None:
    """Atlas, two stores, manifest, config."""
    write_card(folder / "atlas", atlas(), {"source": "theirs"})
    for number, scan in enumerate((GOOD, BAD)):
        deliver(folder, scan, number)
    (folder / "scans.csv").write_text(f"scan\n{GOOD}\n{BAD}\n")


def judged(folder: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """What the cohort job says of the study: the scans that are used, and the rows of those that are not."""
    values = {"manifest": folder / "scans.csv", "prepared": folder, "results": folder / "results"}
    (folder / "study.yaml").write_text(yaml.safe_dump({key: str(path) for key, path in values.items()}))
    chosen = config.read(folder / "study.yaml")
    out = folder / "results"
    (out / "quality").mkdir(parents=True, exist_ok=True)
    tables = cohort.CohortTables(
        *(out / name for name in ("failures.csv", "quality/quality.csv", "scans.csv", "quality/index.html"))
    )
    cohort.cohort(settings.cohort(chosen, read_manifest(chosen.manifest, images=False)), tables)
    lost = {row["scan"]: row for row in _rows(tables.failures)}
    return [row["scan"] for row in _rows(tables.scans)], lost


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def change_json(path: Path, **values: object) -> None:
    """Put these values into a JSON object; of what is None here, the key goes."""
    found = json.loads(path.read_text()) | values
    gone = {key for key, value in values.items() if value is None}
    found = {key: value for key, value in found.items() if key not in gone}
    path.write_text(json.dumps(sealed(found) if "seal" in found else found))  # who can write, can seal
