"""DICOM folders with a person in their headers: sound, and broken in ways that make a reader talk."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pydicom
from prepare.dicom import change, write_slices
from privacy.planted import BORN, COMMENT, GIVEN, NAME, NUMBER, PLACE, ROOT, SECRET, plant_dicom
from pydicom.uid import JPEGLSLossless

from ctssl.prepare.geometry import Place

HOSTILE = f"{NAME}^{GIVEN} <b>{NUMBER}</b>\n=cmd|' /C calc'!A0 {BORN} " + "x" * 10_000


def write_person(folder: Path, hu, place: Place) -> None:
    """A sound series of slices (z, y, x); one file in a folder below."""
    write_slices(folder, hu, place, ConvolutionKernel="B30f", ManufacturerModelName="Model 64")
    plant_dicom(files(folder))
    first = files(folder)[0]
    (folder / "deeper").mkdir()
    first.rename(folder / "deeper" / first.name)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def every(**tags) -> Callable[[Path], None]:
    """Gives all slices these tags."""

    def broken(folder: Path) -> None:
        for file in files(folder):
            change(file, **tags)

    return broken


def typed(*names: str, vr: str = "LO", value=f"{NAME}^{GIVEN}") -> Callable[[Path], None]:
    """Gives one slice tags of a type and a value that they never have."""

    def broken(folder: Path) -> None:
        file = files(folder)[5]
        one = pydicom.dcmread(file)
        for name in names:
            del one[name]
            one.add_new(name, vr, value)
        one.save_as(file)

    return broken


def raw(name: str, text: str) -> Callable[[Path], None]:
    """Replaces the value of a tag in one slice byte by byte, its type stays."""

    def broken(folder: Path) -> None:
        file = files(folder)[5]
        value = pydicom.dcmread(file).get_item(name).value
        data = file.read_bytes()
        assert value in data
        file.write_bytes(data.replace(value, text.encode().ljust(len(value))[: len(value)]))

    return broken


def doubled(folder: Path) -> None:
    for file in files(folder):
        shutil.copy(file, twin := file.with_name(f"twin{file.name}"))
        change(twin, SeriesInstanceUID=f"{ROOT}.8", ConvolutionKernel=HOSTILE[:60])


def gap(folder: Path) -> None:
    by_height = sorted(files(folder), key=lambda f: float(pydicom.dcmread(f).ImagePositionPatient[2]))
    by_height[len(by_height) // 2].unlink()


def cut(folder: Path) -> None:
    file = files(folder)[3]
    file.write_bytes(file.read_bytes()[:-900])


def cut_in_the_header(folder: Path) -> None:
    file = files(folder)[3]
    data = file.read_bytes()
    file.write_bytes(data[: data.index(NUMBER.encode()) + 4])


def wrong_length(folder: Path) -> None:
    """The length of the person's name is that of half the file."""
    file = files(folder)[3]
    data = bytearray(file.read_bytes())
    at = data.index(b"\x10\x00\x10\x00PN") + 6
    data[at : at + 2] = b"\xff\x7f"
    file.write_bytes(data)


def no_position(folder: Path) -> None:
    change(files(folder)[4], ImagePositionPatient=None)


def unknown_packing(folder: Path) -> None:
    for file in files(folder):
        one = pydicom.dcmread(file)
        one.file_meta.TransferSyntaxUID = JPEGLSLossless
        one.PixelData = pydicom.encaps.encapsulate([f"{NAME} {SECRET}".encode()])
        one["PixelData"].is_undefined_length = True
        one.save_as(file)


def strange_packing(folder: Path) -> None:
    for file in files(folder):
        data = file.read_bytes()
        file.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", f"{ROOT}.5\0".encode().ljust(20, b"\0")[:20]))


def many_frames(folder: Path) -> None:
    for file in files(folder)[1:]:
        file.unlink()
    change(files(folder)[0], NumberOfFrames="32", SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1")


SOUND: dict[str, Callable[[Path], None]] = {
    "sound": lambda _: None,
    "kernel": every(ConvolutionKernel=[f"{NAME}^{GIVEN}", "<script>"], ManufacturerModelName=HOSTILE[:64]),
    "long-kernel": typed("ConvolutionKernel", "ManufacturerModelName", vr="UT", value=HOSTILE),
    "odd-thickness": typed("SliceThickness"),
    "raw-thickness": raw("SliceThickness", NUMBER),
}
BROKEN: dict[str, Callable[[Path], None]] = {
    "doubled": doubled,
    "gap": gap,
    "cut": cut,
    "cut-in-the-header": cut_in_the_header,
    "wrong-length": wrong_length,
    "no-position": no_position,
    "unknown-packing": unknown_packing,
    "strange-packing": strange_packing,
    "many-frames": many_frames,
    "no-modality": every(Modality=NUMBER),
    "odd-kind": every(ImageType=[NAME.upper(), GIVEN.upper(), "LOCALIZER"]),
    "odd-spacing": typed("PixelSpacing", value=[NAME, GIVEN]),
    "odd-place": typed("ImagePositionPatient", "ImageOrientationPatient", value=[NAME, GIVEN, PLACE]),
    "odd-size": typed("Rows", "Columns"),
    "odd-bits": typed("BitsAllocated", vr="ST", value=COMMENT),
    "odd-sign": typed("PixelRepresentation", "SamplesPerPixel"),
    "odd-slope": typed("RescaleSlope", "RescaleIntercept"),
    "raw-spacing": raw("PixelSpacing", f"{NAME}\\{GIVEN}"),
    "raw-place": raw("ImagePositionPatient", f"{NAME}\\{GIVEN}\\{NUMBER}"),
    "zero-spacing": every(PixelSpacing=["0", "0"]),
}
"""Name -> what breaks a sound folder, or makes it odd."""
