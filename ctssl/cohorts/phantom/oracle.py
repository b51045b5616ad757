"""Patch stores straight from the landmarks that a deformation knows: no image, no mask, no registration.

Runs where there are only numpy, scipy and tensorstore:

    python -m ctssl.cohorts.phantom.oracle FOLDER --scans 200

writes `atlas/atlas.json`, `stores/{scan}/`, `truth/{scan}.json`, `scans.csv` and a card into FOLDER, which is
what the config's `prepared` names; with --boxes also `boxes/{scan}/`, whole lungs. Patches are those
that the workflow would cut from the same scan if its registration made no error.
"""

import argparse
import json
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ctssl import __version__
from ctssl.cohorts.phantom import cohort
from ctssl.cohorts.phantom.chest import Chest, build_chest, load_chest
from ctssl.cohorts.phantom.cohort import CohortPlan
from ctssl.cohorts.phantom.folder import TABLE, claimed, make_all, plain, read_json, write_table
from ctssl.cohorts.phantom.scan import SyntheticScan, deformation_of, make_scan, true_points
from ctssl.cohorts.phantom.scanner import MAX_HU, MIN_HU, Scanner
from ctssl.cohorts.phantom.subject import Subject
from ctssl.errors import ConfigError, CtsslError
from ctssl.jobs.status import Status
from ctssl.log import tell
from ctssl.prepare.atlas import Atlas, builtin_atlas, read_atlas, write_card
from ctssl.prepare.densitometry import densitometry
from ctssl.prepare.graph import scan_edges
from ctssl.prepare.landmarks import extract_patches, lung_fraction, valid_landmarks
from ctssl.recipes import RECIPES
from ctssl.store.boxes import write_box
from ctssl.store.layout import AIR_HU, StoreArrays
from ctssl.store.writer import write_store

RECIPE = 1
"""Raise it when the same arguments make other stores of the same scans."""

# As in config.yaml, which this machine cannot read.
MIN_LUNG_FRACTION, MIN_INSIDE_FRACTION, RHO_PITCHES = 0.1, 0.5, 1.2
_WIDEST_MM = 150.0  # with landmarks farther apart than this there are too few


@dataclass(frozen=True)
class OraclePlan:
    """What to make.

    Attributes:
        scans: how many, of subjects as in an imaged cohort.
        seed: of everything that is drawn.
        spacing_mm: of voxels and slices, and of the atlas.
        pitch_mm: distance between neighbouring landmarks.
        patch_voxels: edge of a patch.
        sites: hospitals, taken in turn; see `scanner.SITES`.
        boxes: whether the boxes of the lungs are written, too, for methods that cut their samples from them.

    Raises:
        ConfigError: no scans, a negative seed, or a pitch, site or spacing that there is not.
    """

    scans: int
    seed: int
    spacing_mm: float = 2.0
    pitch_mm: float = 54.0
    patch_voxels: int = 32
    sites: tuple[str, ...] = ("A",)
    boxes: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.pitch_mm <= _WIDEST_MM:
            raise ConfigError(
                f"landmarks lie up to {_WIDEST_MM:g} mm apart, but pitch_mm is {self.pitch_mm:g}"
            )
        _ = self.imaged  # whose plan is checked as it is made

    @property
    def imaged(self) -> CohortPlan:
        """The cohort of images that these stores are of."""
        scanner = Scanner(spacing_mm=self.spacing_mm, slice_mm=self.spacing_mm)
        return CohortPlan(self.scans, self.seed, scanner, self.sites)


def write_oracle(folder: Path, plan: OraclePlan) -> None:
    """Nothing; writes a prepared folder.

    A folder that holds exactly this already is left alone; of one that holds a part, whole scans are kept.

    Raises:
        ConfigError: the folder holds something else, or another run writes into it.
    """
    card = plain({"oracle": RECIPE, "phantom": cohort.RECIPE, **asdict(plan)})
    if not plan.boxes:
        del card["boxes"]  # a folder without boxes is what it was before there were any
    with claimed(folder, "oracle", card) as wanted:
        if not wanted:
            tell(f"oracle: stores of {plan.scans} scans are already in {folder}")
            return
        (folder / "truth").mkdir(exist_ok=True)
        with TemporaryDirectory(prefix="ctssl-chest-") as shared:
            _atlas_and_chest(folder / "atlas", plan).save(Path(shared))
            make = partial(_write_one, folder, plan, Path(shared))
            rows = make_all(make, plan.scans, plan.imaged.voxels(), "oracle")
        write_table(folder / TABLE, rows)
    tell(f"oracle: stores of {plan.scans} scans are in {folder}")


def make_store(
    path: Path, name: str, subject: Subject, atlas: Atlas, chest: Chest, scanner: Scanner | None = None
) -> SyntheticScan:
    """The scan whose store was written.

    Args:
        path: folder to make.
        name: id of the scan.
        subject: who is scanned.
        atlas: whose landmarks are followed.
        chest: the canonical one.
        scanner: its slices lie as far apart as its voxels; None: a plain one with the atlas's spacing.
    """
    scanner = scanner or Scanner(spacing_mm=atlas.spacing_mm, slice_mm=atlas.spacing_mm)
    scan = make_scan(subject, scanner, chest)
    arrays = oracle_arrays(scan, true_points(subject, scanner, atlas.landmarks_mm), atlas)
    measures = densitometry(np.clip(scan.hu, MIN_HU, MAX_HU), scan.lobes, atlas.spacing_mm)
    about = {"scan": name, "atlas": atlas.id, "spacing_mm": atlas.spacing_mm, "axes": atlas.axes}
    about |= {"ctssl": __version__, "recipe": RECIPES["store"], "source": "oracle", "measures": measures}
    path.mkdir(parents=True)
    card = write_store(path, arrays, about)
    Status(name, True, "store", numbers={"digest": card["digest"], **measures}).write(path)
    return scan


def make_box(path: Path, name: str, scan: SyntheticScan, atlas: Atlas) -> None:
    """Write the box of a scan's lungs, with the edge of a patch around it, as the workflow would.

    Args:
        path: folder to make.
        name: id of the scan.
        scan: whose voxels are those of the atlas.
        atlas: for its spacing.
    """
    inside = np.argwhere(scan.lungs)
    low = np.maximum(inside.min(0) - atlas.patch_voxels, 0)
    high = np.minimum(inside.max(0) + 1 + atlas.patch_voxels, scan.hu.shape)
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    about = {"scan": name, "atlas": atlas.id, "spacing_mm": atlas.spacing_mm, "axes": atlas.axes}
    about |= {"origin_mm": list(scan.grid().crop(low, high).origin_mm), "ctssl": __version__}
    path.mkdir(parents=True)
    hu = np.clip(scan.hu[part], MIN_HU, MAX_HU)
    card = write_box(path, hu, scan.lungs[part], about | {"recipe": RECIPES["box"], "source": "oracle"})
    Status(name, True, "box", numbers={"digest": card["digest"]}).write(path)


def oracle_arrays(scan: SyntheticScan, landmarks_mm: np.ndarray, atlas: Atlas) -> StoreArrays:
    """What a store holds of a scan whose landmarks (N, 3) are known, x, y, z in LPS mm of the scan."""
    grid, edge = scan.grid(), atlas.patch_voxels
    valid = valid_landmarks(landmarks_mm, grid, MIN_INSIDE_FRACTION, edge=edge)
    patches = np.full((len(valid),) + (edge,) * 3, AIR_HU, np.int16)
    hu = np.clip(scan.hu, MIN_HU, MAX_HU)  # as the workflow does: padding becomes air
    patches[valid] = extract_patches(hu, grid, landmarks_mm[valid], edge=edge, outside=AIR_HU)
    fraction = np.zeros(len(valid), np.float32)
    fraction[valid] = lung_fraction(scan.lungs, grid, landmarks_mm[valid], edge=edge)
    rho = RHO_PITCHES * atlas.pitch_mm
    edges = scan_edges(landmarks_mm, valid, atlas, edges="distance", rho_mm=rho, scale_normalised=True)
    return StoreArrays(patches, valid, landmarks_mm, fraction, edges)


def _atlas_and_chest(folder: Path, plan: OraclePlan) -> Chest:
    """The chest that scans are made from, as in an imaged cohort; writes the atlas."""
    atlas, chest = builtin_atlas(
        spacing_mm=plan.spacing_mm,
        patch_voxels=plan.patch_voxels,
        pitch_mm=plan.pitch_mm,
        min_lung_fraction=MIN_LUNG_FRACTION,
    )
    write_card(folder, atlas, {"source": "builtin"})
    fine = plan.imaged.chest_mm()
    return chest if fine == plan.spacing_mm else build_chest(fine)


def _write_one(folder: Path, plan: OraclePlan, shared: Path, number: int) -> dict[str, Any]:
    """The line of scans.csv; makes what is not there yet. The truth is written last: it says that all is."""
    atlas, scanner = read_atlas(folder / "atlas"), plan.imaged.scanner_at(number)
    name, visit, subject = plan.imaged.subject(number)
    recipes = {"oracle": RECIPE, "phantom": cohort.RECIPE, "store": RECIPES["store"]}
    made_with = plain(
        {"recipes": recipes, "atlas": atlas.id, "seed": plan.seed, "subject": name, "visit": visit}
        | {"scanner": asdict(scanner)}
    )
    truth, store = folder / "truth" / f"phantom{number:03}.json", folder / "stores" / f"phantom{number:03}"
    box = folder / "boxes" / store.name
    if plan.boxes:
        made_with["recipes"]["box"] = RECIPES["box"]
    known = read_json(truth)
    there = (store / "store.json").exists() and ((box / "box.json").exists() or not plan.boxes)
    if known.get("made_with") == made_with and there:
        return dict(known["row"])
    truth.unlink(missing_ok=True)
    for made in (store, box):
        shutil.rmtree(made, ignore_errors=True)
    scan = make_store(store, store.name, subject, atlas, load_chest(shared), scanner)
    if plan.boxes:
        make_box(box, store.name, scan, atlas)
    row = plain(cohort.table_row(plan.imaged, number, scan))
    values = {"made_with": made_with, "row": row, "deformation": deformation_of(subject, scanner).to_json()}
    truth.write_text(json.dumps(values) + "\n")
    return row


def main() -> None:
    """Write a prepared folder; the command line of machines that lack what `ctssl` needs."""
    parser = argparse.ArgumentParser(description="Write patch stores of a synthetic cohort.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scans", type=int, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--spacing-mm", type=float, default=2.0)
    parser.add_argument("--pitch-mm", type=float, default=54.0)
    parser.add_argument("--boxes", action="store_true", help="the boxes of the lungs, too")
    parser.add_argument("--sites", default="A", help="hospitals, taken in turn, as A,B,C")
    chosen = vars(parser.parse_args())
    folder, sites = chosen.pop("folder"), tuple(chosen.pop("sites").split(","))
    try:
        write_oracle(folder, OraclePlan(**chosen, sites=sites))
    except CtsslError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
