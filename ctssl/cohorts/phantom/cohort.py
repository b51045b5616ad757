"""A cohort of synthetic scans on disk: images, truth, and scans.csv with labels."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ctssl.cohorts.phantom.chest import build_chest, load_chest
from ctssl.cohorts.phantom.scan import SyntheticScan, make_scan, true_points
from ctssl.cohorts.phantom.scanner import Scanner, scanner_of
from ctssl.cohorts.phantom.subject import Subject, burden, draw_subject, labels, visit
from ctssl.log import Progress, tell

CARD = "phantom.json"
RECIPE = 3
"""Raise it when the same arguments make other images."""

BRANCH_POINTS = 500
"""How many points where vessels divide are written with each scan; the thickest vessels first."""

_REVISIT_FROM = 8


@dataclass(frozen=True)
class CohortPlan:
    """What to make.

    Attributes:
        scans: how many. From 8 scans on, the last two are two visits of one subject.
        seed: of everything that is drawn.
        scanner: the grid; kernel, noise and table come from the sites.
        sites: names in `scanner.SITES`, taken in turn.
    """

    scans: int
    seed: int
    scanner: Scanner
    sites: tuple[str, ...] = ("A",)

    def subject(self, number: int) -> tuple[str, int, Subject]:
        """Name of the subject of scan `number`, which visit it is, and who it is then."""
        second = self.scans >= _REVISIT_FROM and number == self.scans - 1
        person = number - 1 if second else number
        who = draw_subject(self.seed, person)
        return f"subject{person:03}", int(second), visit(who, 1) if second else who

    def scanner_at(self, number: int) -> Scanner:
        """The scanner of scan `number`."""
        return scanner_of(self.sites[number % len(self.sites)], self.scanner)

    def chest_mm(self) -> float:
        """Voxels of the canonical chest: as fine as the scans, where that can be seen."""
        return float(np.clip(min(self.scanner.spacing_mm, self.scanner.slice_mm), 1.0, 3.0))


def write_cohort(folder: Path, plan: CohortPlan) -> None:
    """Nothing; writes `images/*.nii.gz`, `truth/{scan}/*`, `scans.csv` and a card into the folder.

    A folder that holds exactly this cohort already is left alone.
    """
    card = {"recipe": RECIPE, **asdict(plan)}
    card = json.loads(json.dumps(card))
    if (folder / CARD).exists() and json.loads((folder / CARD).read_text()) == card:
        tell(f"phantom: {plan.scans} scans are already in {folder}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)  # it must not vouch for what is half rewritten
    for made in ("images", "truth"):  # of another cohort, perhaps a larger one
        shutil.rmtree(folder / made, ignore_errors=True)
        (folder / made).mkdir()
    with shared_chest(plan.chest_mm()) as chest, workers() as pool:
        rows = []
        with Progress("phantom", plan.scans, "scans") as progress:
            for row in pool.map(partial(_write_one, folder, plan, chest), range(plan.scans)):
                rows.append(row)
                progress.advance()
    write_table(folder / "scans.csv", rows)
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")
    tell(f"phantom: {plan.scans} scans are in {folder}")


@contextmanager
def shared_chest(spacing_mm: float) -> Iterator[Path]:
    """A folder from which all processes read one canonical chest."""
    with TemporaryDirectory(prefix="ctssl-chest-") as name:
        build_chest(spacing_mm).save(Path(name))
        yield Path(name)


@contextmanager
def workers() -> Iterator[ProcessPoolExecutor]:
    """One process for each processor that we may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        yield pool


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Nothing; writes rows as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def table_row(plan: CohortPlan, number: int, scan: SyntheticScan) -> dict[str, Any]:
    """The line of scans.csv of one scan, without its image."""
    name, visited, subject = plan.subject(number)
    scanner = plan.scanner_at(number)
    found = burden(scan.lesions, int(np.count_nonzero(scan.lobes)))
    return {
        "scan": f"phantom{number:03}",
        "subject": name,
        "visit": visited,
        "site": scanner.site,
        "kernel": scanner.kernel,
        "slice_mm": scanner.slice_mm,
        **labels(subject, found),
    }


def write_nifti(path: Path, array: np.ndarray, scan: SyntheticScan) -> None:
    """Nothing; writes an array (z, y, x) on the scan's LPS grid. NIfTI itself is RAS, x, y, z."""
    import nibabel

    affine = np.diag([*scan.spacing_mm, 1.0])
    affine[:3, 3] = scan.origin_mm
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _write_one(folder: Path, plan: CohortPlan, chest_folder: Path, number: int) -> dict[str, Any]:
    chest = load_chest(chest_folder)
    _, _, subject = plan.subject(number)
    scanner = plan.scanner_at(number)
    scan = make_scan(subject, scanner, chest)
    row = table_row(plan, number, scan)
    image = f"images/{row['scan']}.nii.gz"
    write_nifti(folder / image, scan.hu, scan)
    truth = folder / "truth" / row["scan"]
    truth.mkdir(parents=True, exist_ok=True)
    write_nifti(truth / "lobes.nii.gz", scan.lobes, scan)
    write_nifti(truth / "lesions.nii.gz", scan.lesions, scan)
    _write_points(truth / "branch_points.csv", subject, scanner, chest.branch_points_mm[:BRANCH_POINTS])
    (truth / "deformation.json").write_text(json.dumps(subject.deformation.to_json()) + "\n")
    first = {name: row[name] for name in ("scan", "subject")}
    return first | {"image": image} | row


def _write_points(path: Path, subject: Subject, scanner: Scanner, canonical_mm: np.ndarray) -> None:
    both = np.concatenate([canonical_mm, true_points(subject, scanner, canonical_mm)], 1)
    names = [f"{axis}_{where}_mm" for where in ("atlas", "scan") for axis in "xyz"]
    np.savetxt(path, both, "%.4f", delimiter=",", header=",".join(names), comments="")
