"""DICOM folders: several series, slices that are missing, doubled or moved, other kinds of objects."""

import numpy as np
from inputs.good import Case, Row, dicom, hu, one_quick, place
from inputs.make_dicom import (
    ENHANCED,
    LOCALIZER,
    MR_IMAGE,
    OTHER,
    RTSTRUCT,
    SECONDARY_CAPTURE,
    UID,
    alone,
    copied,
    cut,
    dicomdir,
    doubled,
    falsely_packed,
    moved,
    nested,
    packed,
    pad,
    removed,
    rewritten,
    spoilt,
    tilted,
    unsigned,
    with_series,
    with_tags,
)

from ctssl.prepare.geometry import Place

_NO_CT = "no CT slices"
_NO_PLACE = "do not say where they lie"
_LEFT_OUT = "the folder holds 2 DICOM series: the largest CT series was read, 64 slices"
CASES = [
    Case("a DICOM folder", lambda f: dicom(f / "scan"), why="slices are put in order by where they lie"),
    Case("slices in folders among other files and a DICOMDIR", nested, why="all files below are looked at"),
    Case("slices without a preamble", rewritten(bare=True), why="files of old archives have none"),
    Case("slices with implicit types", rewritten(implicit=True), why="a common encoding", slow=True),
    Case("slices deflated as a whole", rewritten(deflated=True), why="the library unpacks them"),
    Case("slices with unsigned values", spoilt(unsigned), why="the intercept is in the header"),
    *one_quick(
        Case(f"slices packed as {name}", packed(compressor), why="the library unpacks them")
        for name, compressor in (("RLE", "RLELossless"), ("lossless JPEG", "JPEG"), ("JPEG 2000", "JPEG2000"))
    ),
    *one_quick(
        Case(
            f"slices that say they are packed as {name} and are not",
            falsely_packed(uid),
            error="cannot be read",
        )
        for name, uid in (
            ("JPEG-LS", "1.2.840.10008.1.2.4.80"),
            ("JPEG 2000", "1.2.840.10008.1.2.4.90"),
            ("an unknown syntax", "1.2.3.4"),
        )
    ),
    Case("a missing slice", removed(30), error="about 1 slices are missing"),
    Case("three missing slices", removed(10, 30, 31), error="about 3 slices are missing"),
    Case(
        "a slice that is there twice",
        spoilt(copied),
        repair="1 of 65 DICOM slices are copies of others: left out",
    ),
    Case(
        "two unlike slices at one place",
        spoilt(doubled),
        error="1 of 64 DICOM slices lie where another slice lies",
    ),
    Case(
        "a series that is there twice, under two UIDs",
        with_series(lambda: hu()),
        error="2 CT series have 64 slices each",
    ),
    Case(
        "one of two series that was chosen",
        lambda f: Row(with_series(lambda: hu() + 300)(f), series_uid=UID),
        why="series_uid names it",
    ),
    Case(
        "a series_uid that is not there",
        lambda f: Row(dicom(f / "scan", SeriesInstanceUID=UID), series_uid="1.2.3"),
        error="holds no series with the given series_uid",
    ),
    Case(
        "the series_uid of a scout",
        lambda f: Row(with_series(lambda: hu()[:9], ImageType=LOCALIZER)(f), series_uid=OTHER),
        error="holds no CT slices",
    ),
    Case(
        "two reconstructions in one series",
        with_series(lambda: hu() + 30, SeriesInstanceUID=UID),
        error="64 of 128 DICOM slices lie where another slice lies",
        slow=True,
    ),
    Case("a shorter second series", with_series(lambda: hu()[:30] + 300), repair=_LEFT_OUT, slow=True),
    Case(
        "a PET with more slices beside the CT",
        with_series(lambda: hu().repeat(2, 0), Modality="PT"),
        repair=_LEFT_OUT,
        slow=True,
    ),
    Case("a scout beside the CT", with_series(lambda: hu()[:2], ImageType=LOCALIZER), repair=_LEFT_OUT),
    Case(
        "a reformat with more slices beside the CT",
        with_series(lambda: hu().repeat(2, 0), ImageType=["DERIVED", "SECONDARY", "MPR"]),
        repair=_LEFT_OUT,
        slow=True,
    ),
    Case(
        "a scout inside the series",
        with_series(lambda: hu()[:1], ImageType=LOCALIZER, SeriesInstanceUID=UID),
        repair="1 images of the series are localizers",
        slow=True,
    ),
    Case(
        "a series that is a reformat",
        lambda f: dicom(f / "scan", ImageType=["DERIVED", "SECONDARY", "MPR"]),
        repair="there is no original",
    ),
    Case(
        "slices of a larger matrix that go on with the stack",
        with_series(
            lambda: hu()[:9, :30],
            lambda: Place(place().origin_mm + np.array([0, 0, 320]), place().steps_mm),
            SeriesInstanceUID=UID,
        ),
        error="9 of 73 images",
    ),
    Case(
        "slices of another spacing in the stack",
        with_tags(range(1, 64, 3), PixelSpacing=["4", "4"]),
        error="21 of 64 images .* do not match",
    ),
    Case(
        "slices whose spacing was rounded otherwise",
        with_tags(range(1, 64, 3), PixelSpacing=["5.03", "5"]),
        repair="PixelSpacing differs by 0.6 % between slices",
        hu=30.0,
        slow=True,
    ),
    Case(
        "positions that jitter by 0.2 mm",
        moved(lambda n: (0, 0, 0.2 * np.sin(7 * n * n))),
        repair="off equal distances",
        hu=60.0,
    ),
    Case("distances that grow", moved(lambda n: (0, 0, 0.01 * n * n)), error="uneven"),
    Case(
        "slices that lie beside a line",
        moved(lambda n: (1.5 if n == 30 else 0, 0, 0)),
        error="beside the straight line",
    ),
    Case("a tilted gantry", tilted, repair="tilted by 12.0 degrees", hu=140.0, share=0.9, dice=0.9),
    *one_quick(
        Case(f"slices without {tag}", with_tags(**{tag: None}), error=_NO_PLACE)
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    ),
    Case(
        "a PixelSpacing of 0", lambda f: dicom(f / "scan", PixelSpacing=["5", "0"]), error="PixelSpacing 5, 0"
    ),
    Case(
        "a negative PixelSpacing",
        lambda f: dicom(f / "scan", PixelSpacing=["5", "-5"]),
        error="PixelSpacing 5, -5",
    ),
    Case("a PixelSpacing of one number", lambda f: dicom(f / "scan", PixelSpacing="2.5"), error=_NO_PLACE),
    Case(
        "an orientation that is no rotation",
        lambda f: dicom(f / "scan", ImageOrientationPatient=["1", "0", "0", "0.3", "1", "0"]),
        error="two unit vectors at right angles",
    ),
    Case("a slice that was cut off", cut(lambda n: n - 900), error="damaged"),
    Case("a slice of which only the header is left", cut(lambda n: 700), error="damaged|" + _NO_PLACE),
    Case("a slice without a byte", cut(lambda n: 0), error="missing|damaged"),
    Case(
        "headers that promise 65535 x 65535 voxels", with_tags(Rows=65535, Columns=65535), error="max_voxels"
    ),
    Case(
        "one header that promises 65535 x 65535 voxels",
        with_tags([30], Rows=65535, Columns=65535),
        error="do not match|damaged",
    ),
    Case("slices of 0 rows", with_tags(Rows=0), error=_NO_PLACE + "|damaged"),
    Case(
        "slices without RescaleSlope and RescaleIntercept",
        with_tags(RescaleSlope=None, RescaleIntercept=None),
        why="the values are HU then",
    ),
    Case(
        "inverted grey scale, MONOCHROME1", with_tags(PhotometricInterpretation="MONOCHROME1"), error="no air"
    ),
    Case(
        "padding that the header names",
        spoilt(pad),
        repair="the value that the header names, padding",
        hu=700.0,
    ),
    Case("a folder with one slice", lambda f: dicom(f / "scan", hu()[:1]), error="only 1 voxels"),
    Case("a folder with two slices", lambda f: dicom(f / "scan", hu()[:2]), error="only 2 voxels"),
    Case("a DICOMDIR alone", dicomdir, error="holds no DICOM series"),
    Case(
        "an MR series",
        lambda f: dicom(f / "scan", SOPClassUID=MR_IMAGE, Modality="MR", SeriesInstanceUID=UID),
        error=_NO_CT,
    ),
    Case(
        "a secondary capture, a picture of a screen",
        alone(SOPClassUID=SECONDARY_CAPTURE, Modality="OT"),
        error=_NO_CT,
    ),
    Case(
        "an RTSTRUCT alone",
        alone(SOPClassUID=RTSTRUCT, Modality="RTSTRUCT", PixelData=None, Rows=None, Columns=None),
        error=_NO_CT,
    ),
    Case("slices in colour", with_tags(SamplesPerPixel=3, PhotometricInterpretation="RGB"), error=_NO_CT),
    Case(
        "an enhanced multi-frame CT",
        alone(SOPClassUID=ENHANCED, NumberOfFrames=64),
        error="one multi-frame DICOM file",
    ),
]
