"""A cohort of synthetic scans on disk: images, truth, and scans.csv with labels."""

import json
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.cohorts.phantom.chest import Chest, load_chest
from ctssl.cohorts.phantom.deform import Deformation
from ctssl.cohorts.phantom.folder import TABLE, claimed, make_all, plain, shared_chest, write_table
from ctssl.cohorts.phantom.scan import SyntheticScan, deformation_of, make_scan
from ctssl.cohorts.phantom.scanner import Scanner, scanner_of, subslices
from ctssl.cohorts.phantom.subject import Subject, burden, draw_subject, labels, returning, visit
from ctssl.errors import ConfigError
from ctssl.log import tell

RECIPE = 4
"""Raise it when the same arguments make other images."""

BRANCH_POINTS = 500
"""How many points where vessels divide are written with each scan; the thickest vessels first."""

_REVISIT_FROM = 8
_LARGE_MM3 = 5.5e7  # box of a large person's scan


@dataclass(frozen=True)
class CohortPlan:
    """What to make.

    Attributes:
        scans: how many. From 8 scans on, the last two are two visits of one subject.
        seed: of everything that is drawn.
        scanner: the grid; kernel, noise and table come from the sites.
        sites: names in `scanner.SITES`, taken in turn.

    Raises:
        ConfigError: no scans, a negative seed, an unknown site.
    """

    scans: int
    seed: int
    scanner: Scanner
    sites: tuple[str, ...] = ("A",)

    def __post_init__(self) -> None:
        if self.scans < 1 or self.seed < 0:
            raise ConfigError(
                f"a cohort has one scan or more and a seed from 0, but these are {self.scans}, {self.seed}"
            )
        for site in self.sites:
            scanner_of(site, self.scanner)  # raises when there is no such site

    def subject(self, number: int) -> tuple[str, int, Subject]:
        """Name of the subject of scan `number`, which visit it is, and who it is then."""
        revisited = self.scans >= _REVISIT_FROM and number >= self.scans - 2
        second = revisited and number == self.scans - 1
        person = number - 1 if second else number
        who = draw_subject(self.seed, person)
        if revisited:
            who = returning(who)
        return f"subject{person:03}", int(second), visit(who, 1) if second else who

    def scanner_at(self, number: int) -> Scanner:
        """The scanner of scan `number`."""
        return scanner_of(self.sites[number % len(self.sites)], self.scanner)

    def voxels(self) -> int:
        """About how many voxels a scan has, sampled planes between its slices included."""
        planes = subslices(self.scanner) / self.scanner.slice_mm
        return int(_LARGE_MM3 * planes / self.scanner.spacing_mm**2)

    def chest_mm(self) -> float:
        """Voxels of the canonical chest: as fine as the scans, where that can be seen."""
        return float(np.clip(min(self.scanner.spacing_mm, self.scanner.slice_mm), 1.0, 3.0))


def write_cohort(folder: Path, plan: CohortPlan) -> None:
    """Nothing; writes `images/*.nii.gz`, `truth/{scan}/*`, `scans.csv` and a card into the folder.

    A folder that holds exactly this cohort already is left alone.

    Raises:
        ConfigError: the folder holds something else, or another run writes into it.
    """
    with claimed(folder, "images", plain({"recipe": RECIPE, **asdict(plan)})) as wanted:
        if not wanted:
            tell(f"phantom: {plan.scans} scans are already in {folder}")
            return
        for made in ("images", "truth"):  # of another plan, perhaps a larger one
            if (folder / made).exists():
                shutil.rmtree(folder / made)
            (folder / made).mkdir()
        with shared_chest(plan.chest_mm()) as chest:
            rows = make_all(partial(_write_one, folder, plan, chest), plan.scans, plan.voxels(), "phantom")
        write_table(folder / TABLE, rows)
    tell(f"phantom: {plan.scans} scans are in {folder}")


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
    _write_points(truth / "branch_points.csv", deformation_of(subject, scanner), scan, chest)
    (truth / "deformation.json").write_text(json.dumps(deformation_of(subject, scanner).to_json()) + "\n")
    first = {name: row[name] for name in ("scan", "subject")}
    return first | {"image": image} | row


def _write_points(path: Path, deformation: Deformation, scan: SyntheticScan, chest: Chest) -> None:
    canonical = chest.branch_points_mm[:BRANCH_POINTS]
    there = deformation(canonical)
    voxels = np.rint((there - scan.origin_mm) / scan.spacing_mm).astype(int)[:, ::-1]
    inside = ((voxels >= 0) & (voxels < scan.lobes.shape)).all(1)
    visible = np.zeros(len(there), int)
    visible[inside] = scan.lobes[tuple(voxels[inside].T)] > 0
    names = [f"{axis}_{where}_mm" for where in ("atlas", "scan") for axis in "xyz"]
    table = np.concatenate([canonical, there, visible[:, None]], 1)
    formats = ["%.4f"] * 6 + ["%d"]
    np.savetxt(path, table, formats, delimiter=",", header=",".join([*names, "visible"]), comments="")
