"""How well and how fast phantoms are registered to the built-in atlas, where every point is known."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.config import read
from ctssl.log import Progress


def bench_register(scans: int, seed: int, spacing_mm: float, hard: tuple[str, ...] = ()) -> dict[str, Any]:
    """Means over some phantoms, of the affine part and of the whole registration; worst Jacobian.

    Masks are the true ones, so that this measures the registration alone. Errors are distances in mm between
    where an atlas point is put and where it is, over the landmarks in the lungs and over branch points
    of vessels, as far as the registration says that the scan shows them. `shown` is their share, and
    `wrongly_shown` the share of these that lie outside the field of view or in a lung that is missing.
    Settings are those of config.yaml; the CT takes part when `registration.ct_weight` says so.

    Args:
        scans: how many phantoms.
        seed: of the cohort.
        spacing_mm: of masks and atlas.
        hard: hard cases that each phantom is made.
    """
    from ctssl.cohorts.phantom.oracle import MIN_LUNG_FRACTION
    from ctssl.cohorts.phantom.scan import make_scan, true_points
    from ctssl.cohorts.phantom.scanner import Scanner
    from ctssl.cohorts.phantom.subject import draw_subject
    from ctssl.prepare.atlas import builtin_atlas
    from ctssl.prepare.lungs import SIDES, Lungs
    from ctssl.prepare.registration import register
    from ctssl.prepare.transforms import map_points, overlap

    config = read()
    settings, grid = config.registration, config.atlas
    atlas, chest = builtin_atlas(
        spacing_mm=spacing_mm,
        patch_voxels=grid.patch_voxels,
        pitch_mm=grid.pitch_mm,
        min_lung_fraction=MIN_LUNG_FRACTION,
    )
    fixed = Lungs(chest.lungs(), chest.grid, hu=chest.hu)
    inside = fixed.mask[tuple(np.rint(chest.grid.to_array(atlas.landmarks_mm)).astype(int).T)] > 0
    points = {"landmark": atlas.landmarks_mm[inside], "branch": chest.branch_points_mm[:500]}
    both = np.concatenate(list(points.values()))
    sides = fixed.mask[tuple(np.rint(chest.grid.to_array(both)).astype(int).T)]
    scanner = Scanner(spacing_mm, spacing_mm, hard=hard)
    rows = []
    with Progress("bench register", scans, "scans") as progress, tempfile.TemporaryDirectory() as name:
        for number in range(scans):
            subject = draw_subject(seed, number)
            scan = make_scan(subject, scanner, chest)
            moving = Lungs(scan.lungs, scan.grid(), hu=scan.hu)
            start = time.monotonic()
            aligned = register(moving, fixed, both, settings, Path(name))
            seconds = time.monotonic() - start
            truth = true_points(subject, scanner, both)
            affine = [aligned.files["affine"]]
            row = {"seconds": seconds, **aligned.numbers}
            row |= {f"affine_{k}": v for k, v in overlap(moving, fixed, affine).items()}
            for prefix, mapped in (
                ("", aligned.landmarks_mm),
                ("affine_", map_points(both, affine)),
            ):
                row |= _errors(prefix, mapped - truth, aligned.shown, len(points["landmark"]))
            at = moving.grid.to_array(truth)
            inside_view = (at > -0.5) & (at < np.array(moving.mask.shape) - 0.5)
            there = np.asarray(inside_view.all(1))
            if aligned.numbers["missing"]:
                there &= sides != SIDES[aligned.numbers["missing"]]
            row |= {
                "shown": float(aligned.shown.mean()),
                "wrongly_shown": float(1 - there[aligned.shown].mean()),
            }
            rows.append(row)
            progress.advance()
    jacobian = min(row["min_jacobian"] for row in rows)
    means = {
        key: round(float(np.mean([row[key] for row in rows])), 4)
        for key, value in rows[0].items()
        if isinstance(value, float)  # not the words, nor the Dice of a lung that is missing
    }
    return {
        **means,
        "min_jacobian": jacobian,
        "ct_weight": settings.ct_weight,
        "threads": settings.threads,
        "scans": scans,
        "spacing_mm": spacing_mm,
        "registration_spacing_mm": settings.spacing_mm,
        "landmarks": len(points["landmark"]),
    }


def _errors(prefix: str, misses: np.ndarray, shown: np.ndarray, landmarks: int) -> dict[str, float]:
    """Mean and 95th percentile over the first points, which are landmarks, and over the rest."""
    distance = np.linalg.norm(misses, axis=1)
    out = {}
    for name, part in (("landmark", slice(landmarks)), ("branch", slice(landmarks, None))):
        seen = distance[part][shown[part]]
        out[f"{prefix}{name}_error_mm_mean"] = float(seen.mean())
        out[f"{prefix}{name}_error_mm_p95"] = float(np.percentile(seen, 95))
    return out
