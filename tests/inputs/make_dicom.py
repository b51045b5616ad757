"""How DICOM folders are spoilt."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from inputs.good import dicom, hu, place
from prepare.dicom import change, height, write_slices
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid

from ctssl.prepare.geometry import Place

UID = generate_uid(entropy_srcs=["ctssl", "first"])
OTHER = generate_uid(entropy_srcs=["ctssl", "second"])
LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED = "1.2.840.10008.5.1.4.1.1.2.1"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


def sorted_slices(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=height)


def spoilt(spoil: Callable[[list[Path]], Any], **options: Any) -> Callable[[Path], Path]:
    """The good chest's slices, from below, given to `spoil`."""

    def make(folder: Path) -> Path:
        scan = dicom(folder / "scan", **({"SeriesInstanceUID": UID} | options))
        spoil(sorted_slices(scan))
        return scan

    return make


def with_tags(which: Iterable[int] = range(64), **tags: Any) -> Callable[[Path], Path]:
    return spoilt(lambda files: [change(files[number], **tags) for number in which])


def with_series(
    values: Callable[[], np.ndarray], at: Callable[[], Place] = place, **tags: Any
) -> Callable[[Path], Path]:
    """A second series in the same folder."""

    def make(folder: Path) -> Path:
        scan = dicom(folder / "scan", SeriesInstanceUID=UID)
        write_slices(scan, values(), at(), prefix="other", **({"SeriesInstanceUID": OTHER} | tags))
        return scan

    return make


def removed(*numbers: int) -> Callable[[Path], Path]:
    return spoilt(lambda files: [files[number].unlink() for number in numbers])


def copied(files: list[Path]) -> None:
    shutil.copy(files[30], files[30].with_name("copy"))


def doubled(files: list[Path]) -> None:
    x, y, z = map(float, pydicom.dcmread(files[30]).ImagePositionPatient)
    change(files[31], ImagePositionPatient=[x, y, z])


def moved(shift: Callable[[int], tuple[float, float, float]]) -> Callable[[Path], Path]:
    def spoil(files: list[Path]) -> None:
        for number, path in enumerate(files):
            here = map(float, pydicom.dcmread(path).ImagePositionPatient)
            change(
                path, ImagePositionPatient=[round(a + b, 4) for a, b in zip(here, shift(number), strict=True)]
            )

    return spoilt(spoil)


def tilted(folder: Path) -> Path:
    """Slices are tilted about x; the table moves along z, so each shows what lies there."""
    c, s = np.cos(np.radians(12.0)), np.sin(np.radians(12.0))
    steps = np.array([[1, 0, 0], [0, c, 0], [0, s, 1.0]]) * 5.0
    values, size = hu(), np.array(hu().shape[::-1])
    middle = place().origin_mm + place().steps_mm @ (size - 1) / 2
    there = Place(middle - steps @ (size - 1) / 2, steps)
    image = sitk.GetImageFromArray(values)
    image.SetOrigin(place().origin_mm.tolist())
    image.SetSpacing(place().spacing_mm.tolist())
    k, j, i = np.meshgrid(*map(np.arange, values.shape), indexing="ij")
    at = np.stack([i, j, k], -1) @ steps.T + there.origin_mm
    from scipy.ndimage import map_coordinates

    index = ((at - place().origin_mm) / 5.0)[..., ::-1]
    shown = map_coordinates(values.astype(float), np.moveaxis(index, -1, 0), order=1, cval=-1000)
    return dicom(folder / "scan", np.rint(shown).astype(np.int16), there)


def packed(name: str) -> Callable[[Path], Path]:
    def spoil(files: list[Path]) -> None:
        for path in files:
            one = pydicom.dcmread(path)
            if name == "RLELossless":
                one.compress(RLELossless, encoding_plugin="pydicom")
                one.save_as(path)
            else:
                _pack_by_itk(path, one, name)

    return spoilt(spoil)


def _pack_by_itk(path: Path, one: pydicom.Dataset, name: str) -> None:
    """ITK writes the packed voxels, their tags and their syntax; all else stays."""
    image, beside = sitk.ReadImage(str(path)), path.with_name(path.name + ".dcm")
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    sitk.WriteImage(image, str(beside), useCompression=True, compressor=name)
    made = pydicom.dcmread(beside)
    assert made.file_meta.TransferSyntaxUID.is_compressed
    one.PixelData = made.PixelData
    one["PixelData"].is_undefined_length, one["PixelData"].VR = True, "OB"
    one.file_meta.TransferSyntaxUID = made.file_meta.TransferSyntaxUID
    for tag in ("BitsStored", "HighBit", "PixelRepresentation"):
        setattr(one, tag, getattr(made, tag))
    one.save_as(path)
    beside.unlink()


def falsely_packed(syntax: str) -> Callable[[Path], Path]:
    """Slices that say they are packed and are not."""

    def spoil(files: list[Path]) -> None:
        for path in files:
            one = pydicom.dcmread(path)
            raw = one.PixelData
            one.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
            one.PixelData = pydicom.encaps.encapsulate([raw])
            one["PixelData"].is_undefined_length = True
            one.save_as(path)

    return spoilt(spoil)


def rewritten(**options: Any) -> Callable[[Path], Path]:
    """In another encoding, without a preamble."""

    def spoil(files: list[Path]) -> None:
        for path in files:
            one = pydicom.dcmread(path)
            if options.get("implicit"):
                one.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            if options.get("deflated"):
                one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
            one.save_as(path)
            if options.get("bare"):
                path.write_bytes(path.read_bytes()[132:])

    return spoilt(spoil)


def cut(keep: Callable[[int], int], number: int = 30) -> Callable[[Path], Path]:
    def spoil(files: list[Path]) -> None:
        files[number].write_bytes(files[number].read_bytes()[: keep(files[number].stat().st_size)])

    return spoilt(spoil)


def alone(**tags: Any) -> Callable[[Path], Path]:
    """One file that is no CT slice."""

    def make(folder: Path) -> Path:
        scan = dicom(folder / "scan", hu()[:1], SeriesInstanceUID=UID)
        change(next(scan.iterdir()), **tags)
        return scan

    return make


def dicomdir(folder: Path) -> Path:
    (folder / "scan").mkdir()
    (folder / "scan/DICOMDIR").write_bytes(b"\0" * 128 + b"DICM and nonsense")
    return folder / "scan"


def nested(folder: Path) -> Path:
    scan = dicom(folder / "scan")
    (scan / "a/b c").mkdir(parents=True)
    for number, path in enumerate(p for p in sorted(scan.iterdir()) if p.is_file()):
        path.rename(scan / ("a/b c" if number % 2 else "a") / f"{path.name}.dcm")
    (scan / "notes.txt").write_text("no slice")
    (scan / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM and nonsense")
    return scan


def unsigned(files: list[Path]) -> None:
    for path in files:
        one = pydicom.dcmread(path)
        one.PixelData = (np.frombuffer(one.PixelData, "<i2") + 1024).astype("<u2").tobytes()
        one.PixelRepresentation, one.RescaleIntercept = 0, -1024
        one.save_as(path)


def pad(files: list[Path]) -> None:
    for path in files:
        one = pydicom.dcmread(path)
        values = np.frombuffer(one.PixelData, "<i2").reshape(one.Rows, one.Columns).copy()
        values[:3] = -2000
        one.PixelData = values.tobytes()
        one.add_new("PixelPaddingValue", "SS", -2000)
        one.save_as(path)
