"""Lung masks that a person gives, in the column `mask`."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from inputs.good import Case, Row, any_format, dicom, hu, lungs, nifti, patched, place, size
from prepare.files import affine_of, skewed

from ctssl.prepare.geometry import Place


def given(make: Callable[[Path], Path]) -> Callable[[Path], Row]:
    """The good chest with a mask that `make` writes below a folder."""

    def row(folder: Path) -> Row:
        (folder / "masks").mkdir()
        return Row(nifti(folder / "scan.nii"), mask=make(folder / "masks"))

    return row


def holding(
    change: Callable[[np.ndarray], np.ndarray],
    name: str = "mask.nii.gz",
    at: Callable[[], Place] | None = None,
) -> Callable[[Path], Row]:
    return given(lambda folder: any_format(folder / name, change(lungs()), at() if at else None))


def moved(x: float, y: float, z: float, steps: float = 1.0) -> Callable[[], Place]:
    return lambda: Place(place().origin_mm + np.array([x, y, z]), place().steps_mm * steps)


def lobes(mask: np.ndarray) -> np.ndarray:
    """1 to 5, as lobes are numbered."""
    halves = np.where(np.arange(len(mask))[:, None, None] < 28, 0, 1)
    return np.where(
        mask == 0, 0, np.where(mask == 1, 1 + halves, 3 + halves + (np.arange(mask.shape[1]) > 40)[:, None])
    ).astype(np.uint8)


def finer(folder: Path) -> Path:
    """Half the spacing along z and x, and other data."""
    values = lungs().repeat(2, 0).repeat(2, 2).astype(np.float32)
    steps = place().steps_mm * (0.5, 1, 0.5)
    return any_format(folder / "mask.nrrd", values, Place(place().origin_mm - (1.25, 0, 1.25), steps))


def fourth(folder: Path) -> Path:
    """One channel for each lung."""
    channels = np.stack([lungs() == 1, lungs() == 2], -1).astype(np.uint8).transpose(2, 1, 0, 3)
    nibabel.save(nibabel.Nifti1Image(channels, affine_of(place())), folder / "mask.nii")
    return folder / "mask.nii"


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def half(folder: Path) -> Path:
    path = any_format(folder / "mask.nii.gz", lungs())
    path.write_bytes(path.read_bytes()[:900])
    return path


def fifo(folder: Path) -> Path:
    import os

    os.mkfifo(folder / "mask.nii.gz")
    return folder / "mask.nii.gz"


def ball(mask: np.ndarray) -> np.ndarray:
    """Two balls in the shoulders: tissue."""
    out = np.zeros_like(mask)
    out[40:56, 20:36, 2:14], out[40:56, 20:36, -14:-2] = 1, 2
    return out


_ON_IT = "the mask lies on the scan"
_ELSEWHERE = "does not lie on the scan"
CASES = [
    Case("a mask", holding(lambda m: m), why=_ON_IT),
    Case("a mask with other voxels, in another format", given(finer), why=_ON_IT),
    Case("a mask of floating-point labels", holding(lambda m: m.astype("f8")), why="they are whole numbers"),
    Case(
        "a mask along RAS",
        given(
            lambda f: any_format(
                f / "mask.nii",
                lungs()[:, ::-1, ::-1].copy(),
                Place(
                    place().origin_mm + place().steps_mm @ ([1, 1, 0] * (np.array(size()) - 1)),
                    place().steps_mm * [-1, -1, 1],
                ),
            )
        ),
        why=_ON_IT,
    ),
    Case(
        "a mask that covers only the box of the lungs",
        given(
            lambda f: any_format(
                f / "mask.nii",
                lungs()[4:60, 8:60, 8:80],
                Place(place().origin_mm + np.array([40, 40, 20]), place().steps_mm),
            )
        ),
        why=_ON_IT,
    ),
    Case(
        "a mask of one lung",
        holding(lambda m: m * (m == 1)),
        why="a person decides which lungs there are",
        sides="1",
    ),
    Case(
        "a mask with rounded directions",
        given(
            lambda f: any_format(
                f / "mask.nii",
                lungs(),
                skewed(place(), size(), np.array([[0, 0.004, 0], [0, 0, -0.006], [0.003, 0, 0]])),
            )
        ),
        why=_ON_IT,
        dice=0.9,
    ),
    Case("an empty mask", holding(np.zeros_like), error="the given mask is empty"),
    Case("a mask of lobes, 1 to 5", holding(lobes), error="holds the values 0, 1, 2, 3, 4"),
    Case(
        "a mask with both lungs in one value",
        holding(lambda m: (m > 0).astype(np.uint8)),
        error="both lungs have one label",
    ),
    Case(
        "a mask with both lungs at 255",
        holding(lambda m: (m > 0).astype(np.uint8) * 255),
        error="holds the values 0, 255",
    ),
    Case(
        "a mask with sides exchanged",
        holding(lambda m: np.where(m > 0, 3 - m, 0).astype(np.uint8)),
        error="label 1 lies to the left of label 2",
    ),
    Case(
        "a mask mirrored in its header",
        holding(lambda m: m[:, :, ::-1].copy()),
        error="label 1 lies to the left of label 2",
    ),
    Case("a mask upside down", holding(lambda m: m[::-1].copy()), repair="as dense as tissue", dice=0),
    Case(
        "a mask of negative labels",
        holding(lambda m: -m.astype(np.int16)),
        error="holds the values -2, -1, 0",
    ),
    Case("a mask of probabilities", holding(lambda m: (m > 0) * np.float32(0.7)), error="no whole numbers"),
    Case(
        "a mask with NaN", holding(lambda m: np.where(m > 0, m, np.nan).astype("f4")), error="not finite: NaN"
    ),
    Case("a mask with a value of 1e9", holding(lambda m: m * 1e9), error="beyond 16 bits"),
    Case("a mask at another place", holding(lambda m: m, at=moved(600, 0, 0)), error=_ELSEWHERE),
    Case("a mask moved by 20 cm", holding(lambda m: m, at=moved(0, 0, 200)), error=_ELSEWHERE),
    Case(
        "a mask in metres",
        holding(lambda m: m, at=lambda: Place(place().origin_mm / 1000, place().steps_mm / 1000)),
        error="less than a lung",
    ),
    Case("a mask of twice the size", holding(lambda m: m, at=moved(0, 0, 0, 2.0)), error=_ELSEWHERE),
    Case("a mask on tissue", holding(ball), error=_ELSEWHERE),
    Case("a mask of all voxels", holding(np.ones_like), error="."),
    Case(
        "a mask without orientation",
        given(lambda f: patched(any_format(f / "mask.nii", lungs()), 252, np.zeros(2, "<i2"))),
        error="which way is left",
    ),
    Case(
        "a mask with sheared directions",
        given(
            lambda f: any_format(
                f / "mask.nii",
                lungs(),
                skewed(place(), size(), np.array([[0, 2.0, 1.5], [0, 0, 2.0], [0, 0, 0]])),
            )
        ),
        error="at right angles",
    ),
    Case("a mask of two channels", given(fourth), error="4 dimensions"),
    Case(
        "a mask of one slice",
        given(lambda f: any_format(f / "mask.nii", lungs()[30:31])),
        error="only 1 voxels",
    ),
    Case("a mask cut off in the middle", given(half), error="damaged"),
    Case("a mask file without a byte", given(written("mask.nii.gz", b"")), error="empty"),
    Case("a text as a mask", given(written("mask.txt", b"right left")), error="no known ending"),
    Case("a mask that is not there", given(lambda f: f / "mask.nii"), error="does not exist"),
    Case("a FIFO as a mask", given(fifo), error="no file and no folder"),
    Case(
        "a DICOM folder as a mask",
        given(lambda f: dicom(f / "mask", lungs().astype(np.int16))),
        error="is a folder",
    ),
    Case(
        "the scan given as its own mask", given(lambda f: nifti(f / "mask.nii.gz")), error="holds the values"
    ),
    Case(
        "the scan as numbers with fractions given as its own mask",
        given(lambda f: any_format(f / "mask.nii", hu() + np.float32(0.25))),
        error="no whole numbers",
    ),
]
