"""Files of an atlas that cannot be used: each is named, with advice."""

import re
from pathlib import Path

import numpy as np
import pytest
from prepare.chest import turned
from prepare.ellipsoids import chest, write
from prepare.file_atlas import build

from ctssl.errors import ConfigError
from ctssl.prepare.atlas_file import read_points
from ctssl.prepare.grid import Grid


def faulty(folder: Path, what: str) -> dict[str, object]:
    """Settings whose named file has a fault."""
    hu, mask, grid = chest(8.0)
    if what == "absent":
        return {"mask": folder / "none.nii.gz"}
    if what == "cut short":
        path = write(folder / "mask.nii.gz", mask, grid)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif what == "one value":
        write(folder / "mask.nii.gz", (mask > 0).astype(np.uint8), grid)
    elif what == "three values":
        mask[mask > 0] += (np.arange((mask > 0).sum()) % 2).astype(np.uint8)
        write(folder / "mask.nii.gz", mask, grid)
    elif what == "not right and left":
        halves = np.where(mask > 0, 1, 0).astype(np.uint8)
        halves[len(halves) // 2 :] *= 2
        write(folder / "mask.nii.gz", halves, grid)
    elif what == "other order of axes":
        write(folder / "mask.nii.gz", *turned(mask, grid, "SLP"))
    else:
        write(folder / "mask.nii.gz", mask, grid)
    paths = {"mask": folder / "mask.nii.gz"}
    if what == "ct elsewhere":
        far = Grid((grid.origin_mm[0] + 60, *grid.origin_mm[1:]), grid.spacing_mm, grid.size, "LPS")
        return paths | {"ct": write(folder / "ct.nii.gz", hu, far)}
    if what == "ct no HU":
        return paths | {"ct": write(folder / "ct.nii.gz", mask, grid)}
    if what in POINTS:
        np.save(folder / "points.npy", POINTS[what][1])
        points = {"landmarks": folder / "points.npy", "landmark_points": POINTS[what][0]}
        return paths | points | {"min_lung_fraction": None}
    return paths


POINTS = {
    "z first": ("centres", np.array([[0.0, -140, 70], [0, 10, -70]])),
    "corners as mm": ("centres", np.array([[40, 60, 190], [10, 160, 30]])),
    "no lung": ("centres", np.array([[0.0, 110, 146], [5, 110, 146], [-70, 0, 0]])),
    "mm as corners": ("corners", np.array([[-70.0, 0, 0], [70, 0, 0]])),
    "fractions": ("corners", np.array([[2.5, 3, 4], [12, 3, 4]])),
    "two columns": ("corners", np.zeros((4, 2))),
    "one landmark": ("centres", np.array([[70.0, 3, 4]])),
    "one corner": ("corners", np.array([[9, 3, 4]])),
    "no landmarks": ("centres", np.zeros((0, 3))),
    "twice": ("centres", np.array([[70.0, 3, 4], [-70, 0, 0], [70, 3, 4], [70, 3, 60]])),
    "far apart": ("centres", np.array([[70.0, 3, 4], [-70, 0, 0]])),
    "not finite": ("centres", np.array([[70.0, 3, 4], [np.nan, 0, 0]])),
}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("absent", "atlas.mask is .* does not exist"),
        ("cut short", "atlas.mask .* cannot be used"),
        ("one value", "holds 1"),
        ("three values", "holds 1, 2, 3"),
        ("not right and left", "which is not where two lungs lie"),
        ("other order of axes", "do not run along the body"),
        ("ct elsewhere", r"atlas.ct .* HU inside the mask"),
        ("ct no HU", "atlas.ct .* holds only 3 different values"),
        ("z first", "1 lie outside the mask's image"),
        ("no lung", "67 % have no lung"),
        ("corners as mm", "2 lie outside"),
        ("mm as corners", "2 lie outside"),
        ("fractions", "not whole numbers"),
        ("two columns", r"\(4, 2\) values, not N points"),
        ("one landmark", r"atlas\.landmarks .* holds 1 points, two are needed"),
        ("one corner", "holds 1 points, two are needed"),
        ("no landmarks", "holds 0 points, two are needed"),
        ("twice", r"holds 1 of its 4 points again, e\.g\. \[70\.0, 3\.0, 4\.0\]"),
        ("far apart", "100 % have no neighbour: the median distance .* is 140"),
        ("not finite", "not finite"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, what, said):
    with pytest.raises(ConfigError, match=said) as fault:
        build(tmp_path / "atlas", **faulty(tmp_path, what))
    assert fault.value.advice


def archive(path: Path) -> bytes:
    """The bytes of an .npz with two arrays."""
    np.savez(path, a=np.zeros((3, 3)), b=np.ones(2))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.npy", b"no numpy", "cannot be read"),
        ("a.npy", b"", "cannot be read"),
        ("a.npy", b"PK\x03\x04 no archive", "cannot be read"),
        ("a.npy", None, "it is an archive of arrays"),
        ("a.csv", b"x,y\n1,2\n", "its columns are x, y$"),
        ("a.csv", b"x;y;z\n1;2;3\n", "its columns are x;y;z$"),
        ("a.csv", b"x,y,z,x_mm,y_mm,z_mm\n1,2,3,1,2,3\n", "its columns are x, y, z, x_mm"),
        ("a.csv", b"x,X,y,z\n1,2,3,4\n", "its columns are x, x, y, z$"),
        ("a.csv", b"", "its columns are none"),
        ("a.csv", b"x,y,z\n1,2,far\n", "could not convert string to float: 'far'"),
        ("a.csv", b"x,y,z\n1,2\n", "cannot be read"),
        ("a.csv", b"x,y,z\n", "holds 0 points"),
    ],
    ids=range(12),
)
def test_a_list_that_cannot_be_read_is_named(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(archive(tmp_path / "b.npz") if content is None else content)
    with pytest.raises(ConfigError) as fault:
        read_points(path)
    assert re.search(said, fault.value.message)
    assert "x_mm, y_mm, z_mm" in fault.value.advice
