"""Words of a person who is nobody, put into headers; and the search for them in every byte of a folder."""

import base64
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pydicom
from pydicom.datadict import DicomDictionary

NAME, GIVEN, BORN, NUMBER, PLACE = "Zwetschgenbaum", "Quirinius", "19370214", "PID7739415", "KlinikXylophon"
COMMENT, SECRET, ROOT = "geheimnisvoll", "Vogelscheuche", "1.3.6.1.4.1.99377"
TIME, WEIGHT = "173941.58", "83.47159"
WORDS = (NAME, GIVEN, BORN, "1937-02-14", NUMBER, PLACE, COMMENT, SECRET, ROOT, TIME, WEIGHT)
"""None of them stands in a result by chance; upper and lower case are the same."""

VALUES = {
    **dict.fromkeys(("PN",), f"{NAME}^{GIVEN}"),
    **dict.fromkeys(("DA",), BORN),
    **dict.fromkeys(("DT",), f"{BORN}173941"),
    **dict.fromkeys(("TM",), TIME),
    **dict.fromkeys(("SH", "AE"), NUMBER),
    **dict.fromkeys(("CS",), NUMBER),
    **dict.fromkeys(("LO", "ST", "LT", "UT", "UC"), f"{COMMENT} {NAME} {PLACE} {BORN} 1937-02-14"),
    **dict.fromkeys(("UR",), f"http://{SECRET}/{NUMBER}"),
    **dict.fromkeys(("UI",), f"{ROOT}.4711"),
    **dict.fromkeys(("DS",), WEIGHT),
}
"""What every tag of a type of text gets."""

_NEEDED = {
    *("SOPClassUID", "Modality", "ImageType", "SamplesPerPixel", "PhotometricInterpretation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept"),
    *("SpecificCharacterSet", "ConvolutionKernel", "ManufacturerModelName", "SpacingBetweenSlices"),
    *("GantryDetectorTilt", "PixelAspectRatio", "LossyImageCompression"),
}
_FILE_GROUPS = (0x0000, 0x0002, 0x0004)


def plant_dicom(files: Iterable[Path]) -> None:
    """Nothing; writes the words into all tags of text that are no part of geometry, kernel, thickness, model.

    Also into the preamble, the file's meta group, private tags and the bytes after the voxels.
    """
    words = {
        tag: (vr, VALUES[vr])
        for tag, (vr, _, _, _, keyword) in DicomDictionary.items()
        if vr in VALUES and keyword not in _NEEDED and tag >> 16 not in _FILE_GROUPS
    }
    for number, file in enumerate(files):
        one = pydicom.dcmread(file)
        for tag, (vr, value) in words.items():
            if number % 15 == 0 or tag >> 16 in (0x0008, 0x0010):  # all in some, for the sake of time
                one.add_new(tag, vr, value)
        one.SeriesInstanceUID = f"{ROOT}.1"  # of the whole series
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.2.{number}"
        one.PatientID = f"{NUMBER}"
        block = one.private_block(0x0009, f"{SECRET} CREATOR", create=True)
        block.add_new(1, "LO", f"{NAME} {NUMBER}")
        block.add_new(2, "UN", f"{NAME}^{GIVEN}".encode("utf-16-le"))
        one.file_meta.ImplementationVersionName = SECRET
        one.file_meta.SourceApplicationEntityTitle = NUMBER
        one.preamble = f"{NAME} {BORN}".encode().ljust(128)
        one.add_new(0xFFFCFFFC, "OB", f"{SECRET}{NUMBER}".encode().ljust(64))
        one.save_as(file)


def found(root: Path, words: Iterable[str] = WORDS) -> list[str]:
    """`path: word` of each word in a file or in a name below a folder, in any case and spelling that follows.

    As UTF-8, UTF-16, base64 or hexadecimal; also within gzip, in the packed texts of PNG, and in Parquet.
    """
    patterns = {word: _spellings(word) for word in words}
    hits = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        data = [name.encode()]
        if path.is_symlink():
            data.append(str(path.readlink()).encode())
        elif path.is_file():
            data += _unpacked(path)
        hits += [f"{name}: {word}" for word, ways in patterns.items() if any(_holds(d, ways) for d in data)]
    return hits


def _holds(data: bytes, ways: tuple[list[bytes], list[bytes]]) -> bool:
    any_case, exact = ways
    lower = data.lower()
    return any(way in lower for way in any_case) or any(way in data for way in exact)


def _spellings(word: str) -> tuple[list[bytes], list[bytes]]:
    """In small letters, and those where case counts: base64 at each of its three beginnings."""
    small = word.lower()
    plain = [small.encode(), small.encode("utf-16-le")[:-1], small.encode().hex().encode()]
    exact = []
    for text in {word, small, word.upper()}:
        for shift in range(3):
            code = base64.b64encode(b"\0" * shift + text.encode())
            exact.append(code[shift + (shift > 0) : -4])  # its ends also hold what stands beside it
    return plain, exact


def _unpacked(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    yield data
    if data[:2] == b"\x1f\x8b":
        with suppress(EOFError, OSError, zlib.error):  # what cannot be unpacked was searched as it is
            yield gzip.decompress(data)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        yield from _chunks(data)
    elif data[:4] == b"PAR1":
        import pyarrow.parquet as parquet

        table = parquet.read_table(path)
        yield f"{table.schema.metadata} {table.to_pylist()}".encode()


def _chunks(png: bytes) -> Iterator[bytes]:
    """The texts of a PNG, unpacked where they are packed."""
    at = 8
    while at < len(png):
        size, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + size]
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            for start in range(size):  # the packed part has no fixed beginning
                with suppress(zlib.error):
                    yield zlib.decompress(body[start:])
        at += 12 + size
