"""What the fuzzer found, each as the smallest damage that shows it.

What it found of NRRD and MetaImage stands in tests/prepare/test_voxels.py.
"""

import struct
import tracemalloc

import pytest
from fuzz.kind import pristine
from fuzz.seeds import kinds

from ctssl.prepare.source import Bounded


def refused(folder, kind, damage):
    """The message on the valid files of a kind after some damage; the error is of the right class."""
    every = kinds()[kind]
    pristine(every, folder / "case")
    damage(folder / "case")
    with pytest.raises(every.errors) as fault:
        every.read(folder / "case")
    assert fault.value.advice
    return str(fault.value)


def poke(name, offset, value):
    """Damage that puts bytes into the file of that name, from an offset on."""

    def damage(folder):
        path = min(path for path in folder.glob(name) if path.is_file())
        data = bytearray(path.read_bytes())
        data[offset : offset + len(value)] = value
        path.write_bytes(data)

    return damage


def swap(name, old, new):
    """Damage that replaces bytes, which are there, by others."""

    def damage(folder):
        path = min(path for path in folder.glob(name) if path.is_file())
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, 1))

    return damage


def both(*damages):
    def damage(folder):
        for one in damages:
            one(folder)

    return damage


def sequences(count):
    """Damage that adds a slice of sequences in sequences, none of which ends."""
    start = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )

    def damage(folder):
        (folder / "scan/extra").write_bytes(bytes(128) + b"DICM" + count * start)

    return damage


# a row of the sform is 0, and there is a qform too
FLAT = both(poke("a.nii", 280, bytes(16)), poke("a.nii", 252, struct.pack("<hh", 1, 1)))
REFUSED = {
    "a NIfTI whose voxels begin at 1e19 (ValueError)": ("nii", poke("a.nii", 108, struct.pack("<f", 1e19))),
    "a NIfTI whose sform is flat (TypeError)": ("nii", FLAT),
    "a DICOM number of another type (BytesLengthException)": (
        "dicom",
        swap("scan/*", b"\x28\0\x10\0US", b"\x28\0\x10\0FD"),
    ),
    "a DICOM file that ends in a sequence (OSError, as of the machine)": ("dicom", sequences(3)),
    "a DICOM file of 2000 nested sequences": ("dicom", sequences(2000)),
    "a DICOM transfer syntax that is none": (
        "dicom",
        swap("scan/*", b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.77"),
    ),
    "a .npy whose header opens a bracket (TokenError)": ("landmarks npy", swap("p.npy", b"), }", b"(, }")),
    "a .npy of a petabyte (MemoryError)": (
        "landmarks npy",
        swap("p.npy", b"(4, 3), }           ", b"(140737488388096, 3)}"),
    ),
    "landmarks at 1e308 mm (a warning)": ("landmarks csv", swap("p.csv", b"-60.00", b"1e308")),
    "an atlas whose landmark is a long number (OverflowError)": (
        "atlas card",
        swap("atlas.json", b'"neighbours": [[0', b'"neighbours": [[9223372036854775808'),
    ),
    "an atlas whose neighbour is no landmark": (
        "atlas card",
        swap("atlas.json", b'"neighbours": [[0', b'"neighbours": [[600'),
    ),
    "an atlas with a spacing of text": (
        "atlas card",
        swap("atlas.json", b'"spacing_mm": 1.0', b'"spacing_mm": "1"'),
    ),
    "a store whose flags are damaged (NotImplementedError)": (
        "store values",
        poke("scan0/store.zarr/valid/c/*", 16, b"\xff" + bytes(7)),
    ),
    "a store whose HU are said to be unsigned (other values)": (
        "store verified",
        swap("scan0/store.zarr/patches/zarr.json", b"int16", b"uint16"),
    ),
    "a store whose bytes are said to stand the other way round (other values)": (
        "store verified",
        swap("scan0/store.zarr/landmarks_mm/zarr.json", b"little", b"big"),
    ),
    "a store of endless chunks (abort)": (
        "store verified",
        swap("scan0/store.zarr/edges/zarr.json", b'"chunk_shape":[4,', b'"chunk_shape":[4294967297,'),
    ),
    "a checkpoint with one other number (other values)": ("checkpoint", poke("step-*.pt", 600, b"\1\2\3\4")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_was_found_is_refused(tmp_path, what):
    kind, damage = REFUSED[what]
    assert refused(tmp_path, kind, damage)


@pytest.mark.parametrize(
    ("kind", "name", "old"),
    [
        ("manifest", "scans.csv", b"1.2.840"),
        ("config", "config.yaml", b"10.0"),
        ("landmarks csv", "p.csv", b"25.00"),
    ],
)
def test_a_message_does_not_quote_without_end(tmp_path, kind, name, old):
    assert len(refused(tmp_path, kind, swap(name, old, b"A" * 5000))) < 2000


def test_a_length_of_gigabytes_in_a_small_file_takes_no_memory(tmp_path):
    """pydicom asks for what a header promises, and Python's own files take the memory first."""
    (tmp_path / "a").write_bytes(b"0123456789")
    with (tmp_path / "a").open("rb") as plain:
        file = Bounded(plain)
        assert file.read(2) == b"01"
        tracemalloc.start()
        assert file.read(1 << 30) == b"23456789"
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20
        file.seek(8)
        assert (file.read(), file.read(), file.tell()) == (b"89", b"", 10)
