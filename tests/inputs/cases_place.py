"""Sizes, spacings, directions: where a header says that the voxels lie."""

import numpy as np
from inputs.good import Case, hu, one_quick, patched, place
from inputs.make_place import (
    PIXDIM,
    QUATERN,
    SFORM,
    along,
    at,
    bytes_at,
    crooked,
    dimensions,
    flat,
    forms,
    header,
    many_values,
    meta,
    nrrd,
    oblique,
    part,
    scaled,
    second_version,
    tilted,
    with_notes,
)
from prepare.files import write_nifti, write_nrrd

from ctssl.prepare.geometry import Place

_MIRROR = np.diag([-1.0, 1, 1, 1])
_MOVED = np.array([[1.0, 0, 0, 7.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
_SMALL, _LARGE = "less than a lung", "more than any scanner sees"
_LENGTHS = "three lengths above 0"

CASES = [
    *one_quick(
        Case(f"{name} along {axes}", along(name, axes), why="the header says so")
        for name, axes in (
            ("a.nii", "RAS"),
            ("a.nrrd", "SAR"),
            ("a.mha", "PIL"),
            ("a.nii.gz", "LAS"),
            ("a.nrrd", "RPI"),
        )
    ),
    Case(
        "an oblique scan",
        oblique(12.0),
        why="it is resampled onto the atlas's axes",
        hu=60.0,
        share=0.98,
        dice=0.9,
    ),
    *one_quick(
        Case(
            f"{name} of slices shifted by a gantry tilted by 15 degrees",
            tilted(name, 15.0),
            repair="tilted by 15.0 degrees",
            hu=140.0,
            share=0.9,
            dice=0.9,
        )
        for name in ("a.nii", "a.nrrd")
    ),
    *one_quick(
        Case(
            f"{name} with directions that were rounded",
            at(name, lambda: crooked((0, 0.004, 0), (0, 0, -0.006), (0.003, 0, 0))),
            repair="not quite at right angles",
            hu=30.0,
        )
        for name in ("a.nii", "a.nrrd", "a.mha")
    ),
    *one_quick(
        Case(
            f"{name} with sheared directions",
            at(name, lambda: crooked((0, 2.0, 1.5), (0, 0, 2.0), (0, 0, 0))),
            error="at right angles",
        )
        for name in ("a.nii", "a.nrrd")
    ),
    Case(
        "a gantry tilted by 45 degrees",
        at("a.nii", lambda: crooked((0, 0, 0), (0, 0, 5.0), (0, 0, 0))),
        error="no gantry tilts more",
    ),
    Case(
        "a NIfTI whose axes are all one",
        at("a.nii", lambda: Place(place().origin_mm, np.full((3, 3), 3.0))),
        error="right angles|lengths|gantry",
    ),
    Case(
        "an NRRD whose axes are all one",
        nrrd(space_directions="(5,0,0) (5,0,0) (5,0,0)"),
        error="right angles|lengths|gantry|cannot be read",
    ),
    Case(
        "a MetaImage whose axes are all one",
        meta("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 1 0 0 1 0 0 1 0 0"),
        error="right angles|lengths|cannot be read",
    ),
    Case(
        "a MetaImage whose TransformMatrix is zero",
        meta("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 0 0 0 0 0 0 0 0 0"),
        error="right angles|lengths|cannot be read",
    ),
    Case(
        "a MetaImage whose TransformMatrix is NaN",
        meta("TransformMatrix = 1 0 0", "TransformMatrix = nan 0 0"),
        error="right angles|lengths|cannot be read",
    ),
    Case("a NIfTI without orientation", forms(None, None), error="which way is left"),
    Case("a NIfTI with a qform alone", forms(None, np.eye(4)), why="one orientation is enough"),
    Case(
        "a NIfTI whose qform is moved by 7.5 mm",
        forms(np.eye(4), _MOVED),
        repair="sform and qform lie up to 7.5 mm apart",
    ),
    Case(
        "a NIfTI whose qform is mirrored", forms(np.eye(4), _MIRROR), error="two orientations that contradict"
    ),
    Case(
        "a NIfTI whose quaternion is NaN",
        lambda f: patched(forms(None, np.eye(4))(f), QUATERN, np.full(3, np.nan, "<f4")),
        error="orientation is damaged|" + _LENGTHS,
    ),
    Case(
        "a NIfTI whose quaternion is too long",
        lambda f: patched(forms(None, np.eye(4))(f), QUATERN, np.full(3, 5, "<f4")),
        error="orientation is damaged",
    ),
    Case("a NIfTI with a spacing of 0", bytes_at(SFORM, np.zeros(12)), error=_LENGTHS),
    Case("a NIfTI with an infinite spacing", bytes_at(SFORM, np.inf), error=_LENGTHS),
    Case("a NIfTI with a spacing of NaN", bytes_at(SFORM + 4, np.nan), error=_LENGTHS),
    Case(
        "a NIfTI with a qform alone and a spacing of 0",
        lambda f: patched(forms(None, np.eye(4))(f), PIXDIM, np.zeros(3, "<f4")),
        error=_LENGTHS,
    ),
    Case(
        "a NIfTI with a qform alone and a negative spacing",
        lambda f: patched(forms(None, np.eye(4))(f), PIXDIM, np.array([-5, 5, 5], "<f4")),
        repair="negative",
    ),
    Case("a NIfTI whose two spacings differ", bytes_at(PIXDIM, [2.5, 2.5, 5]), repair="pixdim"),
    Case(
        "a MetaImage with a spacing of 0",
        meta("ElementSpacing = 5 5 5", "ElementSpacing = 5 0 5"),
        error=_LENGTHS + "|cannot be read",
    ),
    Case(
        "a MetaImage with a negative spacing",
        meta("ElementSpacing = 5 5 5", "ElementSpacing = -5 5 5"),
        error="above 0",
    ),
    Case(
        "a MetaImage with a spacing of NaN",
        meta("ElementSpacing = 5 5 5", "ElementSpacing = 5 nan 5"),
        error=_LENGTHS + "|cannot be read",
    ),
    Case("a MetaImage without spacing", meta("ElementSpacing = 5 5 5\n", ""), error="no ElementSpacing"),
    Case(
        "a MetaImage without directions",
        meta("TransformMatrix = 1 0 0 0 1 0 0 0 1\n", ""),
        repair="no TransformMatrix",
    ),
    Case(
        "an NRRD with a step of 0",
        nrrd(space_directions="(5,0,0) (0,0,0) (0,0,5)"),
        error=_LENGTHS + "|cannot be read",
    ),
    Case(
        "an NRRD with a step of NaN",
        nrrd(space_directions="(5,0,0) (0,nan,0) (0,0,5)"),
        error=_LENGTHS + "|cannot be read",
    ),
    Case(
        "an NRRD without directions",
        nrrd(space_directions=None, space_origin=None),
        error="which way is left",
    ),
    Case(
        "an NRRD in a space that does not say which way is left",
        nrrd(space="3D-right-handed"),
        error="which way is left",
    ),
    Case(
        "an NRRD in right-anterior-superior",
        lambda f: write_nrrd(f / "a.nrrd", hu(), place(), "right-anterior-superior"),
        why="the header says so",
    ),
    Case(
        "a NIfTI in metres that says so",
        lambda f: write_nifti(f / "a.nii", hu(), scaled(1e-3), xyzt_units=1),
        repair="units of 1000 mm",
        hu=1.0,
    ),
    Case(
        "a NIfTI in microns that says so",
        lambda f: write_nifti(f / "a.nii", hu(), scaled(1e3), xyzt_units=3),
        repair="units of 0.001 mm",
        hu=1.0,
    ),
    Case("a NIfTI in mm that says metres", header(xyzt_units=1), error=_LARGE),
    *one_quick(
        Case(f"{name} in metres", at(name, lambda: scaled(1e-3)), error=_SMALL)
        for name in ("a.nii", "a.nrrd", "a.mha")
    ),
    *one_quick(
        Case(f"{name} in centimetres", at(name, lambda: scaled(0.1)), error=_SMALL)
        for name in ("a.nii", "a.nrrd")
    ),
    *one_quick(
        Case(f"{name} in microns", at(name, lambda: scaled(1e3)), error=_LARGE)
        for name in ("a.nii", "a.nrrd", "a.mha")
    ),
    Case("a spacing twice as large as it is", at("a.nii", lambda: scaled(2.0)), error="more than anybody's"),
    Case(
        "a spacing half as large as it is", at("a.nii", lambda: scaled(0.5)), repair="a child", hu=1e9, dice=0
    ),
    Case(
        "slices that are said to be five times as far apart",
        at("a.nii", lambda: scaled((1, 1, 5))),
        error="more than anybody's",
    ),
    *one_quick(
        Case(
            f"{name} at a place 10 km away",
            at(name, lambda: Place(place().origin_mm + 1e7, place().steps_mm)),
            error="away from the scanner's origin",
        )
        for name in ("a.nii", "a.nrrd", "a.mha")
    ),
    Case(
        "an origin of 1e30 mm",
        at("a.mha", lambda: Place(np.array([1e30, 0, 0]), place().steps_mm)),
        error="away from the scanner's origin",
    ),
    Case("a NIfTI of version 2", second_version, why="the same header with larger numbers"),
    Case("a NIfTI with notes behind its header", with_notes, why="extensions are passed over"),
    Case("a NIfTI of one slice", part("a.nii", 1), error="only 1 voxels"),
    Case("a NIfTI of two slices", part("a.nii", 2), error="only 2 voxels"),
    Case("an NRRD of two slices", part("a.nrrd", 2), error="only 2 voxels"),
    Case("a NIfTI of seven slices", part("a.nii", 7), error="only 7 voxels"),
    Case("a MetaImage of seven slices", part("a.mha", 7), error="only 7 voxels"),
    Case("an NRRD of seven columns", part("a.nrrd", 7, axis=2), error="only 7 voxels"),
    *one_quick(
        Case(f"{name} of two dimensions", flat(name), error="2 dimensions|only")
        for name in ("a.nii", "a.nrrd", "a.mha")
    ),
    Case("a NIfTI with a fourth dimension of one", dimensions("a.nii", 1), why="a dimension of one is none"),
    Case("a NIfTI of two phases", dimensions("a.nii", 2), error="4 dimensions"),
    Case("a NIfTI of five dimensions", dimensions("a.nii", 2, 2), error="5 dimensions"),
    *one_quick(
        Case(f"{name} of two phases", dimensions(name, 2), error="4 dimensions")
        for name in ("a.nrrd", "a.mha")
    ),
    *one_quick(
        Case(f"{name} in colour", many_values(name, "colour"), error="colours|values a voxel|dimensions")
        for name in ("a.nii", "a.nrrd", "a.mha")
    ),
    *one_quick(
        Case(f"{name} of vectors", many_values(name, "vectors"), error="values a voxel|dimensions")
        for name in ("a.nii", "a.nrrd", "a.mha")
    ),
    Case("a NIfTI of complex numbers", many_values("a.nii", "complex"), error="complex numbers"),
    Case("a NIfTI of bits", bytes_at(70, [1, 1], "<i2"), error="damaged|number a voxel"),
    Case("a NIfTI of an unknown kind of numbers", bytes_at(70, [3333, 16], "<i2"), error="damaged"),
]
