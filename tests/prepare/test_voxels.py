"""NRRD and MetaImage: what ITK reads of them is read here, what it guesses or crashes on is refused."""

import gzip
import os
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from prepare.balls import body, straight

from ctssl.errors import ScanError
from ctssl.prepare.metaimage import read_metaimage
from ctssl.prepare.nrrd import read_nrrd
from ctssl.prepare.voxels import Block, read_voxels

SIZE, SPACING_MM = (9, 10, 11), (10.0, 12.0, 14.0)
VALUES = np.arange(np.prod(SIZE), dtype="<i2").reshape(SIZE[::-1])
RAW = VALUES.tobytes()
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "0 1 0 0 0 -1 1 0 0",
    "Offset": "1 2 3",
    "ElementSpacing": "10 12 14",
    "DimSize": "9 10 11",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "right-anterior-superior",
    "sizes": "9 10 11",
    "space directions": "(0,10,0) (0,0,12) (14,0,0)",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(1,2,3)",
}


def header(fields, changes, mark):
    lines = {name: value for name, value in {**fields, **changes}.items() if value is not None}
    return "".join(f"{name}{mark}{value}\n" for name, value in lines.items()).encode()


def meta(folder, changes=None, data=RAW, **files):
    last = {"ElementDataFile": None, **(changes or {})}
    name = last["ElementDataFile"] or "LOCAL"
    text = header(META, {**last, "ElementDataFile": None}, " = ") + f"ElementDataFile = {name}\n".encode()
    return written(folder, "a.mha", text, data, files)


def nrrd(folder, changes=None, data=RAW, **files):
    return written(folder, "a.nrrd", b"NRRD0004\n" + header(NRRD, changes or {}, ": ") + b"\n", data, files)


def written(folder, name, text, data, files):
    (folder / name).write_bytes(text + data)
    for other, content in files.items():
        (folder / f"{other}.raw").write_bytes(content)
    return folder / name


def read(path):
    return (read_nrrd if path.suffix == ".nrrd" else read_metaimage)(path, 10**6)


BIG = VALUES.astype(">i2").tobytes()
LEGAL = {
    "a MetaImage": lambda f: meta(f),
    "its voxels packed": lambda f: meta(
        f, {"CompressedData": "True", "CompressedDataSize": f"{len(zlib.compress(RAW))}"}, zlib.compress(RAW)
    ),
    "its voxels beside it": lambda f: meta(f, {"ElementDataFile": "v.raw"}, b"", v=RAW),
    "its voxels at the end": lambda f: meta(f, {"HeaderSize": "-1"}, b"1234567" + RAW),
    "its voxels after so many bytes": lambda f: meta(
        f, {"HeaderSize": "7", "ElementDataFile": "v.raw"}, b"", v=b"1234567" + RAW
    ),
    "high bytes first": lambda f: meta(f, {"BinaryDataByteOrderMSB": "True"}, BIG),
    "high bytes first, said otherwise": lambda f: meta(
        f, {"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "True"}, BIG
    ),
    "nothing said of bytes": lambda f: meta(f, {"BinaryDataByteOrderMSB": None, "BinaryData": None}),
    "MET_LONG, of 4 bytes": lambda f: meta(f, {"ElementType": "MET_LONG"}, VALUES.astype("<i4").tobytes()),
    "Orientation and Position": lambda f: meta(
        f, {"TransformMatrix": None, "Orientation": "1 0 0 0 0 1 0 -1 0", "Offset": None, "Position": "4 5 6"}
    ),
    "ElementSize alone": lambda f: meta(f, {"ElementSpacing": None, "ElementSize": "12 12 13"}),
    "an NRRD": lambda f: nrrd(f),
    "an NRRD, packed": lambda f: nrrd(f, {"encoding": "gzip"}, gzip.compress(RAW)),
    "an NRRD, high bytes first": lambda f: nrrd(f, {"endian": "big"}, BIG),
    "an NRRD with its voxels beside it": lambda f: nrrd(f, {"data file": "v.raw"}, b"", v=RAW),
    "lines skipped": lambda f: nrrd(f, {"line skip": "2"}, b"one\ntwo\n" + RAW),
    "bytes skipped": lambda f: nrrd(f, {"byte skip": "7"}, b"1234567" + RAW),
    "lines and bytes skipped": lambda f: nrrd(f, {"line skip": "1", "byte skip": "3"}, b"one\n123" + RAW),
    "bytes skipped after unpacking": lambda f: nrrd(
        f, {"byte skip": "7", "encoding": "gzip"}, gzip.compress(b"1234567" + RAW)
    ),
    "voxels at the end of an NRRD": lambda f: nrrd(f, {"byte skip": "-1"}, b"1234567" + RAW),
    "capitals and blanks": lambda f: nrrd(
        f,
        {"space": "LPS", "space origin": "( 1, 2 , 3 )", "space directions": "(0,10,0)  (0,0,12)  (14,0,0)"},
    ),
    "private tags that ITK copied": lambda f: nrrd(
        f, {f"0009|{n}:={'x' * 1000}": "" for n in range(1000, 1200)}
    ),
    "keys of one's own": lambda f: nrrd(f, {"key:=space": "none", "# type": "float"}),
}


@pytest.mark.parametrize("what", LEGAL)
def test_a_legal_header_is_read_as_itk_reads_it(tmp_path, what):
    path = LEGAL[what](tmp_path)
    mine, theirs = read(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(mine.values, sitk.GetArrayFromImage(theirs))
    np.testing.assert_array_equal(mine.values, VALUES)
    steps = np.array(theirs.GetDirection()).reshape(3, 3) * theirs.GetSpacing()
    np.testing.assert_allclose(mine.place.steps_mm, steps, atol=1e-12)
    np.testing.assert_allclose(mine.place.origin_mm, theirs.GetOrigin(), atol=1e-12)


def test_packed_voxels_need_no_word_on_their_size(tmp_path):
    """SimpleITK 2.5 gives whatever was in memory, and says nothing."""
    path = meta(tmp_path, {"CompressedData": "True"}, zlib.compress(RAW))
    np.testing.assert_array_equal(read(path).values, VALUES)


FLIPPED = bytearray(zlib.compress(RAW))
FLIPPED[400] ^= 8
LONG = "A" * 5000
REFUSED = {
    # SimpleITK 2.5 ends with a segfault on these
    "32768 dimensions": (lambda f: meta(f, {"NDims": "32768"}), "dimensions"),
    "a type of 5000 letters": (lambda f: nrrd(f, {"type": LONG}), "its type"),
    "a vector of 5000 letters": (lambda f: nrrd(f, {"space directions": f"(10,{LONG}"}), "space directions"),
    "a dimension of 5000 letters": (lambda f: nrrd(f, {"dimension": LONG}), "dimension"),
    "an origin of 5000 letters": (lambda f: nrrd(f, {"space origin": f"(1,{LONG},3)"}), "space origin"),
    # it reads these, and says nothing
    "packed voxels that are damaged": (
        lambda f: meta(f, {"CompressedData": "True"}, bytes(FLIPPED)),
        "packing is broken",
    ),
    "two numbers of three, which loses the spacing": (lambda f: meta(f, {"Offset": "1 2"}), "'Offset'"),
    "a header of 100 bytes that is longer": (lambda f: meta(f, {"HeaderSize": "9999"}), "promises 1980"),
    "a field that comes twice": (lambda f: nrrd(f, {"sizes ": "9 10 12"}), "twice"),
    # and goes anywhere for the voxels of these
    "voxels above the folder": (
        lambda f: meta(f, {"ElementDataFile": "../v.raw"}),
        "outside of its own folder",
    ),
    "voxels of the system": (
        lambda f: meta(f, {"ElementDataFile": "/dev/zero"}),
        "outside of its own folder",
    ),
    "an NRRD's voxels above": (
        lambda f: nrrd(f, {"data file": "x/../../v.raw"}),
        "outside of its own folder",
    ),
    "a NUL in the name": (lambda f: nrrd(f, {"data file": "v\0.raw"}), "outside of its own folder"),
    "voxels in no file": (lambda f: nrrd(f, {"data file": "v.raw"}), "which is not there"),
    "voxels in the folder itself": (lambda f: nrrd(f, {"datafile": "."}), "which is not there"),
    "voxels in a list of files": (lambda f: nrrd(f, {"data file": "LIST"}), "several files"),
    "voxels in numbered files": (lambda f: meta(f, {"ElementDataFile": "v%03d.raw 1 9 1"}), "several files"),
    # what is skipped is no voxel
    "bytes skipped, then too few": (lambda f: nrrd(f, {"byte skip": "7"}), "holds 1973 bytes"),
    "lines skipped that are not there": (lambda f: nrrd(f, {"line skip": "99999999999"}, b""), "more lines"),
    "lines skipped backwards": (lambda f: nrrd(f, {"line skip": "-1"}), "line skip"),
    "an endless skip": (lambda f: nrrd(f, {"byte skip": "9" * 30}), "promises 1980"),
    "an endless skip of packed bytes": (
        lambda f: nrrd(f, {"byte skip": "900000", "encoding": "gzip"}, gzip.compress(RAW)),
        "damaged",
    ),
    "a skip backwards": (lambda f: nrrd(f, {"byte skip": "-2"}), "byte skip"),
    "packed voxels at the end": (
        lambda f: nrrd(f, {"byte skip": "-1", "encoding": "gzip"}, gzip.compress(RAW)),
        "byte skip",
    ),
    "a header without end": (lambda f: nrrd(f, {"content": "x" * 600000}), "does not end"),
    "text for voxels": (lambda f: meta(f, {"BinaryData": "False"}), "as text"),
    "hexadecimal voxels": (lambda f: nrrd(f, {"encoding": "hex"}), "neither raw nor packed"),
    "a size of nan": (lambda f: meta(f, {"DimSize": "9 nan 11"}), "whole numbers"),
    "an infinite spacing": (lambda f: meta(f, {"ElementSpacing": "10 inf 14"}), "not finite"),
    "colours": (lambda f: meta(f, {"ElementNumberOfChannels": "3"}), "3 values a voxel"),
    "a fourth dimension": (lambda f: nrrd(f, {"dimension": "4", "sizes": "9 10 11 2"}), "4 dimensions"),
    "a list of slices": (lambda f: nrrd(f, {"kinds": "domain domain list"}), "2 dimensions"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_header_that_cannot_be_trusted_is_refused(tmp_path, what):
    make, words = REFUSED[what]
    with pytest.raises(ScanError, match=words) as fault:
        read(make(tmp_path))
    assert fault.value.advice
    assert len(str(fault.value)) < 300


def test_a_pipe_for_voxels_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "v.raw")
    with pytest.raises(ScanError, match="which is not there"):
        read(nrrd(tmp_path, {"data file": "v.raw"}))


def test_a_link_beside_the_header_may_lead_elsewhere(tmp_path):
    """Data sets that are kept apart from their links (git-annex, DVC) stay readable."""
    (tmp_path / "away").mkdir()
    (tmp_path / "away/x").write_bytes(RAW)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/v.raw").symlink_to(tmp_path / "away/x")
    np.testing.assert_array_equal(read(nrrd(tmp_path / "here", {"data file": "v.raw"})).values, VALUES)


@pytest.mark.parametrize("packing", ["raw", "gzip", "zlib"])
def test_voxels_are_read_in_full_or_not_at_all(tmp_path, packing):
    values = body(straight())
    pack = {"raw": bytes, "gzip": gzip.compress, "zlib": zlib.compress}[packing]
    data, path = b"head" + pack(b"123" + values.tobytes()), tmp_path / "a"
    block = Block(path, 3, np.dtype("<i2"), values.shape[::-1], packing, start=4)
    path.write_bytes(data)
    np.testing.assert_array_equal(read_voxels(block), values)
    for end in {len(data) - 1, len(data) // 2, 5}:
        path.write_bytes(data[:end])
        with pytest.raises(ScanError, match="damaged"):
            read_voxels(block)
