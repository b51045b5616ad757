"""How long synthetic scans and their stores take, and how exact their truth is."""

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

_SEED = 7


def bench_phantom(scans: int, spacing_mm: float, slice_mm: float) -> dict[str, Any]:
    """Seconds to build atlas and chest, a scan, an oracle store, in one process; errors of the truth.

    Args:
        scans: how many are made.
        spacing_mm: in-plane, and of the oracle's patches.
        slice_mm: distance of slices of the scans.
    """
    from ctssl.cohorts.phantom.oracle import MIN_LUNG_FRACTION, OraclePlan, make_store
    from ctssl.cohorts.phantom.scan import make_scan
    from ctssl.cohorts.phantom.scanner import Scanner
    from ctssl.cohorts.phantom.subject import draw_subject
    from ctssl.prepare.atlas import builtin_atlas

    start = time.monotonic()
    plan = OraclePlan(scans, _SEED, spacing_mm, pitch_mm=27 * spacing_mm)
    atlas, chest = builtin_atlas(
        spacing_mm=spacing_mm,
        patch_voxels=plan.patch_voxels,
        pitch_mm=plan.pitch_mm,
        min_lung_fraction=MIN_LUNG_FRACTION,
    )
    atlas_seconds = time.monotonic() - start
    subjects = [draw_subject(_SEED, number) for number in range(scans)]
    start = time.monotonic()
    shapes = [make_scan(s, Scanner(spacing_mm, slice_mm), chest).hu.shape for s in subjects]
    scan_seconds = (time.monotonic() - start) / scans
    with tempfile.TemporaryDirectory() as name:
        start = time.monotonic()
        for number, subject in enumerate(subjects):
            make_store(Path(name) / f"{number}", f"{number}", subject, atlas, chest)
        oracle_seconds = (time.monotonic() - start) / scans
    points = np.concatenate([atlas.landmarks_mm, chest.branch_points_mm])
    errors = [np.abs(s.deformation.inverse(s.deformation(points)) - points).max() for s in subjects]
    return {
        "scans": scans,
        "spacing_mm": spacing_mm,
        "slice_mm": slice_mm,
        "landmarks": len(atlas.landmarks_mm),
        "branch_points": len(chest.branch_points_mm),
        "atlas_seconds": round(atlas_seconds, 2),
        "scan_seconds": round(scan_seconds, 3),
        "scan_voxels": int(np.mean([np.prod(shape) for shape in shapes])),
        "oracle_seconds": round(oracle_seconds, 3),
        "inverse_error_mm_max": float(max(errors)),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
