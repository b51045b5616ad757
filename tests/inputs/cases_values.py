"""What the voxels hold: other units, other images, other parts of the body."""

import numpy as np
from inputs.good import Case, any_format, hu, lungs, one_quick, place, replaced
from inputs.make_values import (
    FORMATS,
    belly,
    body,
    bottle,
    colon,
    head,
    holding,
    itk_swapped,
    mr,
    one_voxel,
    padded,
    part,
    right_lung_alone,
    sloped,
)
from prepare.files import write_nrrd

_SAME = "the values are the same"
_PADDING = "padding: taken for not seen"
CASES = [
    *one_quick(Case(f"NaN in {name}", one_voxel(np.nan, name), error="not finite: NaN") for name in FORMATS),
    *one_quick(
        Case(f"an infinite value in {name}", one_voxel(np.inf, name), error="not finite: infinite")
        for name in FORMATS
    ),
    Case("a value of 1e300", one_voxel(1e300, kind="f8"), error="not finite: infinite"),
    Case("a value of 1e30", one_voxel(1e30), why="one voxel; values are cut off at volume.hu_max", hu=0.6),
    Case("a value of -1e30", one_voxel(-1e30), why="one voxel; values are cut off at volume.hu_min", hu=0.6),
    *one_quick(
        Case(
            f"an image of nothing but {value}",
            holding(lambda v, value=value: np.full_like(v, value)),
            error="all voxels hold the same value",
        )
        for value in (0, -1024)
    ),
    Case(
        "air alone",
        holding(lambda v: np.random.default_rng(0).normal(-1000, 10, v.shape).astype(np.int16)),
        error="no soft tissue|Hounsfield",
    ),
    Case(
        "noise alone",
        holding(lambda v: np.random.default_rng(0).integers(-1024, 3071, v.shape, np.int16)),
        error="Hounsfield|lungs",
    ),
    *one_quick(
        Case(f"{what} voxels", holding(lambda v, kind=kind: v.astype(kind)), why=_SAME)
        for what, kind in (
            ("float32", "f4"),
            ("float64", "f8"),
            ("32-bit", "i4"),
            ("64-bit", "i8"),
            ("big-endian", ">i2"),
        )
    ),
    Case(
        "big-endian voxels in an NRRD",
        lambda f: replaced(
            write_nrrd(f / "a.nrrd", hu().astype(">i2").view("<i2"), place()),
            b"endian: little",
            b"endian: big",
        ),
        why=_SAME,
    ),
    Case(
        "big-endian voxels in a MetaImage",
        lambda f: replaced(
            itk_swapped(f / "a.mha"), b"BinaryDataByteOrderMSB = False", b"BinaryDataByteOrderMSB = True"
        ),
        why=_SAME,
    ),
    Case(
        "unsigned 16-bit voxels and an intercept of -1024",
        sloped(1, -1024, lambda v: v + 1024, np.uint16),
        why=_SAME,
    ),
    Case("a slope of 0.5", sloped(0.5, -24, lambda v: (v + 24) * 2), why=_SAME),
    Case(
        "8-bit voxels with a slope of 16",
        sloped(16, -1024, lambda v: (v.clip(-1024, 3056) + 1024) / 16, np.uint8),
        why="coarse steps, but HU",
        hu=16.0,
    ),
    Case("a slope of 0", sloped(0, 7, lambda v: v), why="NIfTI: a slope of 0 means none"),
    Case("a slope of NaN", sloped(np.nan, 0, lambda v: v), why="nibabel and ITK: no slope"),
    Case("an infinite slope", sloped(np.inf, 0, lambda v: v), why="nibabel and ITK: no slope"),
    Case("an intercept of NaN", sloped(1, np.nan, lambda v: v), error="intercept"),
    Case("a slope of 1000", sloped(1000, 0, lambda v: v), error="Hounsfield"),
    Case("a negative slope", sloped(-1, 0, lambda v: v), error="Hounsfield|no air"),
    Case("a slope of 1e38", sloped(1e38, 0, lambda v: v), error="infinite|Hounsfield"),
    Case("the intercept forgotten", holding(lambda v: v + 1024), repair="1024 too high: 1024 taken off"),
    Case("the intercept applied twice", holding(lambda v: v - 1024), repair="1024 too low: 1024 added"),
    Case(
        "an intercept of -1000 forgotten, unsigned",
        holding(lambda v: (v.clip(-1000) + 1000).astype(np.uint16)),
        repair="1000 too high",
        hu=60.0,
    ),
    Case("padding of -3024 around the field of view", padded(-3024), repair=_PADDING, hu=60.0),
    Case("padding of -32768 around the field of view", padded(-32768), repair=_PADDING, hu=60.0),
    Case(
        "a window of 0 to 255",
        holding(lambda v: ((v.clip(-1350, 150) + 1350.0) * 255 / 1500).astype(np.uint8)),
        error="8-bit picture whose window is not known",
    ),
    Case(
        "a window of 0 to 255 in 16 bits",
        holding(lambda v: ((v.clip(-1350, 150) + 1350.0) * 255 / 1500).astype(np.int16)),
        error="8-bit picture",
    ),
    Case(
        "values from 0 to 1",
        holding(lambda v: (v.clip(-1000, 400) + 1000).astype("f4") / 1400),
        error="normalised",
    ),
    Case(
        "values from -1 to 1",
        holding(lambda v: (v.clip(-1000, 1000) / 1000).astype("f4")),
        error="normalised",
    ),
    Case(
        "values without mean, in standard deviations",
        holding(lambda v: ((v - v.mean()) / v.std()).astype("f4")),
        error="Hounsfield|normalised|no air",
    ),
    Case(
        "values cut off at -1000 and 400",
        holding(lambda v: v.clip(-1000, 400)),
        why="inside of the window they are HU",
        hu=700.0,
    ),
    Case(
        "a lung window of -1350 to -500",
        holding(lambda v: v.clip(-1350, -500)),
        error="no soft tissue|Hounsfield",
    ),
    Case(
        "a soft-tissue window of -160 to 240", holding(lambda v: v.clip(-160, 240)), error="no air|Hounsfield"
    ),
    Case("inverted values", holding(lambda v: -v), error="Hounsfield|no air"),
    Case("an inverted picture", holding(lambda v: 2047 - v.clip(-1024, 2047)), error="Hounsfield|no air"),
    Case("tenths of HU", holding(lambda v: (v / 10).astype(np.int16)), error="Hounsfield|no air"),
    Case("an MR", holding(mr), error="no air|Hounsfield"),
    Case("a mask given as the image", holding(lambda v: lungs()), error="a mask of labels"),
    Case("a head", body(head, (85.0, 100.0, 125.0)), error="no lungs"),
    Case("an abdomen", body(belly, (170.0, 120.0, 150.0)), error="no lungs"),
    Case("an abdomen whose bowel is full of gas", body(colon, (170.0, 120.0, 150.0)), error="gas"),
    Case("a bottle of water", body(bottle, (100.0, 100.0, 150.0)), error="no lungs|Hounsfield"),
    Case(
        "only the right lung and the spine",
        lambda f: part(*right_lung_alone())(f),
        why="the spine tells which lung it is",
        sides="1",
        dice=0.9,
    ),
    Case(
        "only the upper half of the chest",
        part(32, 64, 0),
        why="what the scanner did not see makes landmarks not valid",
    ),
    Case(
        "a chest upside down in its header",
        lambda f: any_format(f / "a.nii", hu()[::-1]),
        why="the header is believed: look at the scan's picture",
        hu=np.inf,
        dice=0,
    ),
    Case(
        "a chest mirrored in its header",
        lambda f: any_format(f / "a.nii", hu()[:, :, ::-1]),
        why="the header is believed: look at the scan's picture",
        hu=np.inf,
        dice=0,
    ),
]
