"""A cohort of synthetic scans on disk: images, truth, and scans.csv with labels."""

import csv
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.cohorts.phantom.deform import Deformation
from ctssl.cohorts.phantom.scan import Scanner, SyntheticScan, make_scan
from ctssl.log import Progress, tell

CARD = "phantom.json"
RECIPE = 2
"""Raise it when the same arguments make other images."""


@dataclass(frozen=True)
class CohortPlan:
    """What to make: number of scans, seed, scanner. The last subject has two scans from 8 scans on."""

    scans: int
    seed: int
    scanner: Scanner


def write_cohort(folder: Path, plan: CohortPlan) -> None:
    """Nothing; writes `images/*.nii.gz`, `truth/*.json`, `scans.csv` and a card into the folder.

    A folder that holds exactly this cohort already is left alone.
    """
    card = {"recipe": RECIPE, **asdict(plan)}
    if (folder / CARD).exists() and json.loads((folder / CARD).read_text()) == card:
        tell(f"phantom: {plan.scans} scans are already in {folder}")
        return
    (folder / CARD).unlink(missing_ok=True)  # it must not vouch for what is half rewritten
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "truth").mkdir(exist_ok=True)
    with (
        ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool,
        Progress("phantom", plan.scans, "scans") as progress,
    ):
        rows = []
        for row in pool.map(partial(_write_one, folder, plan), range(plan.scans)):
            rows.append(row)
            progress.advance()
    with (folder / "scans.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")
    tell(f"phantom: {plan.scans} scans are in {folder}")


def draw_subject(plan: CohortPlan, number: int) -> dict[str, Any]:
    """One row: ids, deformation, grade, labels of scan `number`."""
    second_visit = plan.scans >= 8 and number == plan.scans - 1
    subject = number - 1 if second_visit else number
    rng = np.random.default_rng([plan.seed, subject])
    deformation = Deformation.draw(rng)
    grade = subject % 5
    age = rng.uniform(45, 80)
    fev1pp = np.clip(104 - 16 * grade + rng.normal(0, 5), 15, 130)
    fev1_fvc = np.clip(0.80 - 0.10 * grade + rng.normal(0, 0.03), 0.2, 0.95)
    return {
        "scan": f"phantom{number:03}",
        "subject": f"subject{subject:03}",
        "deformation": deformation,
        "grade": grade,
        "age": round(age, 1),
        "sex": "MF"[int(rng.integers(2))],
        "fev1pp": round(fev1pp, 1),
        "fev1_fvc": round(fev1_fvc, 3),
        "gold": _gold(fev1pp, fev1_fvc),
        "seed": int(plan.seed * 100003 + number),
    }


def _write_one(folder: Path, plan: CohortPlan, number: int) -> dict[str, Any]:
    row = draw_subject(plan, number)
    deformation = row.pop("deformation")
    scan = make_scan(deformation, row["grade"], plan.scanner, row["seed"])
    name = f"images/{row['scan']}.nii.gz"
    write_nifti(folder / name, scan.hu, scan)
    burden = round(100 * float(scan.emphysema.sum() / np.count_nonzero(scan.lungs)), 2)
    truth = {"deformation": deformation.to_json(), "grade": row["grade"], "burden_percent": burden}
    (folder / "truth" / f"{row['scan']}.json").write_text(json.dumps(truth) + "\n")
    labels = {name: row[name] for name in ("age", "sex", "fev1pp", "fev1_fvc", "gold")}
    return {
        "scan": row["scan"],
        "subject": row["subject"],
        "image": name,
        **labels,
        "emphysema_grade": row["grade"],
        "severe": "yes" if row["grade"] >= 2 else "no",
        "burden_percent": burden,
    }


def write_nifti(path: Path, array: np.ndarray, scan: SyntheticScan) -> None:
    """Nothing; writes an array (z, y, x) on the scan's LPS grid. NIfTI itself is RAS, x, y, z."""
    import nibabel

    affine = np.diag([*scan.spacing_mm, 1.0])
    affine[:3, 3] = scan.origin_mm
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)


def _gold(fev1pp: float, fev1_fvc: float) -> int:
    """GOLD stage 0 to 4 from lung function (0: ratio of at least 0.7)."""
    return 0 if fev1_fvc >= 0.7 else int(1 + (fev1pp < 80) + (fev1pp < 50) + (fev1pp < 30))
