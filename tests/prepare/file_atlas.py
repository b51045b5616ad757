"""Builds small atlases from files."""

from pathlib import Path

from ctssl.prepare.atlas_sources import build_atlas
from ctssl.prepare.machine import Machine

HERE = Machine(max_voxels=10**8)
FILE = {
    "source": "file",
    "spacing_mm": 5.0,
    "patch_voxels": 16,
    "pitch_mm": 60.0,
    "min_lung_fraction": 0.1,
    "mask": None,
    "ct": None,
    "landmarks": None,
    "landmark_points": None,
    "scans": (),
}


def build(folder: Path, **changes):
    return build_atlas(folder, {"atlas": {**FILE, **changes}}, HERE)
