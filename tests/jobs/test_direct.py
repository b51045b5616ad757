"""`ctssl mask` and `ctssl register` on single files, through the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from prepare import ellipsoids
from prepare.chest import turned

pytestmark = pytest.mark.xdist_group("registration")

SHAPE = {"scale": (1.06, 0.96, 1.04), "shift": (9.0, -4.0, 12.0)}


def ctssl(folder: Path, *args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from ctssl.cli import main; main()", *args]
    environment = {**os.environ, "PYTHONWARNINGS": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, text=True, capture_output=True, check=False, env=environment, timeout=300
    )


def dice(ours: np.ndarray, theirs: np.ndarray) -> float:
    return 2 * np.count_nonzero(ours & theirs) / (np.count_nonzero(ours) + np.count_nonzero(theirs))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A scan with oblique thick slices, and an atlas as the published one is stored: 50, 100, along L-A-S."""
    folder = tmp_path_factory.mktemp("files")
    hu, _, grid = ellipsoids.chest(3.0, **SHAPE)
    straight = sitk.GetImageFromArray(hu)
    straight.SetOrigin(grid.origin_mm)
    straight.SetSpacing((grid.spacing_mm,) * 3)
    oblique = sitk.ResampleImageFilter()
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.06, -0.05, 0.08)
    middle = straight.TransformContinuousIndexToPhysicalPoint([n / 2 for n in straight.GetSize()])
    size, spacing = (120, 90, 66), (3.0, 3.0, 5.0)
    direction = np.array(turn.GetMatrix()).reshape(3, 3)
    oblique.SetOutputDirection(direction.ravel().tolist())
    oblique.SetSize(size)
    oblique.SetOutputSpacing(spacing)
    oblique.SetDefaultPixelValue(-1000)
    corner = direction @ ((np.array(size) - 1) * np.array(spacing) / 2)
    oblique.SetOutputOrigin((np.array(middle) - corner).tolist())
    sitk.WriteImage(oblique.Execute(straight), str(folder / "scan.nrrd"))
    _, mask, atlas = ellipsoids.chest(3.0)
    codes = np.array([0, 50, 100], np.int16)[mask]
    ellipsoids.write(folder / "atlas.nii.gz", *turned(codes, atlas, "LAS"))
    return folder


@pytest.fixture(scope="module")
def masked(folder) -> Path:
    done = ctssl(folder, "mask", "scan.nrrd", "out/mask.nii.gz", "--method", "threshold")
    assert done.returncode == 0, done.stderr
    return folder / "out/mask.nii.gz"


@pytest.fixture(scope="module")
def registered(folder, masked) -> Path:
    done = ctssl(folder, "register", str(masked), "--atlas", "atlas.nii.gz", "--out", "reg")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((folder / "reg/quality.json").read_text())
    return folder / "reg"


def test_a_mask_lies_on_the_voxels_of_its_scan(folder, masked):
    scan, mask = sitk.ReadImage(str(folder / "scan.nrrd")), sitk.ReadImage(str(masked))
    assert mask.GetSize() == scan.GetSize()
    for ours, theirs in zip(mask.GetDirection(), scan.GetDirection(), strict=True):
        assert abs(ours - theirs) < 1e-5
    np.testing.assert_allclose(mask.GetOrigin(), scan.GetOrigin(), atol=1e-3)
    k, j, i = np.meshgrid(*map(np.arange, scan.GetSize()[::-1]), indexing="ij")
    steps = np.array(scan.GetDirection()).reshape(3, 3) * scan.GetSpacing()
    truth = ellipsoids.lungs(np.stack([i, j, k], -1) @ steps.T + scan.GetOrigin(), **SHAPE)
    ours = sitk.GetArrayFromImage(mask)
    assert set(np.unique(ours)) == {0, 1, 2}
    for label in (1, 2):
        assert dice(ours == label, truth == label) > 0.96


def test_quality_says_what_the_warped_mask_shows(folder, registered):
    quality = json.loads((registered / "quality.json").read_text())
    warped, atlas = (nibabel.load(p) for p in (registered / "warped_mask.nii.gz", folder / "atlas.nii.gz"))
    np.testing.assert_allclose(warped.affine, atlas.affine, atol=1e-4)
    ours, theirs = (np.asarray(image.dataobj) for image in (warped, atlas))
    assert set(np.unique(ours)) == {0, 1, 2}
    for name, (label, code) in {"right": (1, 50), "left": (2, 100)}.items():
        found = dice(ours == label, theirs == code)
        assert quality[f"dice_{name}"] == pytest.approx(found, abs=1e-4)
        assert found > 0.97
    assert 0 < quality["min_jacobian"] < 2
    assert 0 < quality["seconds"] < 120
    assert quality["threads"] == 1


def test_both_transforms_are_there_and_lead_there_and_back(registered):
    affine = sitk.ReadTransform(str(registered / "from-atlas_to-scan_affine.mat"))

    def field(name):
        image = sitk.ReadImage(str(registered / name), sitk.sitkVectorFloat64)
        return sitk.DisplacementFieldTransform(image)

    there = sitk.CompositeTransform([affine, field("from-atlas_to-scan_warp.nii.gz")])
    back = sitk.CompositeTransform([field("from-scan_to-atlas_warp.nii.gz"), affine.GetInverse()])
    for centre in ellipsoids.CENTRES.values():
        moved = there.TransformPoint(centre)
        truth = np.array(centre) * SHAPE["scale"] + SHAPE["shift"]
        assert np.linalg.norm(moved - truth) < 6
        assert np.linalg.norm(np.array(back.TransformPoint(moved)) - centre) < 1


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("mask", "absent.nii.gz", "m.nii.gz", "--method", "threshold"), "does not exist"),
        (("mask", "scan.nrrd", "m.txt", "--method", "threshold"), "m.txt"),
        (("mask", "scan.nrrd", "scan.nrrd", "--method", "threshold"), "is the scan itself"),
        (("mask", "scan.nrrd", ".", "--method", "threshold"), "cannot be written"),
        (("mask", "scan.nrrd", "scan.nrrd/m.nii.gz", "--method", "threshold"), "cannot be written"),
        (("register", "atlas.nii.gz", "--atlas", "atlas.nii.gz", "--out", "scan.nrrd"), "cannot be written"),
        (("register", "scan.nrrd", "--atlas", "atlas.nii.gz", "--out", "r"), "labels|whole numbers"),
        (("register", "atlas.nii.gz", "--atlas", "absent.nii", "--out", "r"), "does not exist"),
    ],
)
def test_a_fault_is_a_message_with_advice(folder, args, word):
    done = ctssl(folder, *args)
    assert done.returncode == 2
    assert "What to do" in done.stderr
    assert "Traceback" not in done.stderr
    assert any(part in done.stderr for part in word.split("|"))


def odd_masks(folder: Path) -> dict[str, Path]:
    """Masks that somebody may give, made of the atlas's."""
    _, mask, grid = ellipsoids.chest(3.0)
    top = mask[: mask.shape[0] // 2]
    made = {
        "one": (np.where(mask == 1, 1, 0), grid),
        "binary": ((mask > 0).astype(np.uint8), grid),
        "swapped": (np.array([0, 2, 1])[mask], grid),
        "lobes": (mask * 2 + 1 * (mask > 0), grid),
        "cut": (top, grid.crop(np.zeros(3), np.array(top.shape))),
    }
    files = {}
    for name, (array, place) in made.items():
        files[name] = ellipsoids.write(folder / f"{name}.nii.gz", array.astype(np.int16), place)
    return files


def test_one_lung_and_cut_lungs_are_registered_by_what_they_show(folder):
    files = odd_masks(folder)
    one, cut = (
        json.loads(ctssl(folder, "register", str(files[n]), "--atlas", "atlas.nii.gz", "--out", n).stdout)
        for n in ("one", "cut")
    )
    assert (one["missing"], one["dice_left"], one["verdict"]) == ("left", None, "warn")
    assert one["dice_right"] > 0.97
    assert cut["cut"] == "top"
    assert min(cut["dice_right"], cut["dice_left"]) > 0.95
    assert max(cut["whole_dice_right"], cut["whole_dice_left"]) < 0.85
    assert "the field of view cuts the lungs: top" in cut["reasons"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("binary", "both lungs have one label"),
        ("swapped", "label 1 lies to the left of label 2"),
        ("lobes", "holds the labels 3, 5"),
    ],
)
def test_a_mask_that_is_none_of_two_lungs_is_refused(folder, name, word):
    done = ctssl(folder, "register", str(odd_masks(folder)[name]), "--atlas", "atlas.nii.gz", "--out", "no")
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_an_atlas_with_one_lung_is_refused(folder):
    one = str(odd_masks(folder)["one"])
    done = ctssl(folder, "register", "atlas.nii.gz", "--atlas", one, "--out", "no")
    assert done.returncode == 2
    assert "the atlas has no left lung" in done.stderr


def test_masks_of_ones_own_are_benchmarked(folder, masked):
    done = ctssl(folder, "bench", "masks", "atlas.nii.gz", str(masked), "--json", "bench.json")
    assert done.returncode == 0, done.stderr
    [row] = json.loads((folder / "bench.json").read_text())["rows"]
    assert row["mask"] == masked.name
    assert 0.8 < row["affine_dice_right"] < 1  # the deformation is an affine one: SyN adds nothing
    assert 0.97 < row["dice_right"] < 1
    assert "released_seconds" not in row
