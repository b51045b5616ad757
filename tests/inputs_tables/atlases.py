"""Odd and broken lists of landmarks and cards of an atlas: names, bytes, and what they get."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
from inputs_tables.page import Case

from ctssl.prepare.atlas import read_atlas
from ctssl.prepare.atlas_file import read_points

POINTS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
CSV = "x,y,z\n1,2,3\n4,5,6\n"


class Evil:
    """Makes a file `pwned` in the working folder when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch pwned",)


def header(text: str, data: bytes = b"") -> bytes:
    """A .npy file with this header."""
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


def of(dtype: str, shape: str, data: bytes) -> bytes:
    """A .npy file that says what it holds."""
    return header(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}", data)


def points(name: str, content: bytes | str) -> Callable[[Path], object]:
    """Writes these bytes, or makes this kind of thing, and reads it as landmarks."""

    def make(folder: Path) -> object:
        path = folder / name
        if content == "pipe":
            os.mkfifo(path)
        elif content == "device":
            path.symlink_to("/dev/zero")
        elif content == "terabyte":
            path.touch()
            os.truncate(path, 1 << 40)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        before = Path.cwd()
        os.chdir(folder)
        try:
            return read_points(path).tolist()
        finally:
            os.chdir(before)
            assert not (folder / "pwned").exists()

    return make


def bad(what: str, words: str, name: str, content: bytes | str) -> Case:
    """A list that is refused."""
    return Case(what, "error", words, points(name, content))


def saved(array: np.ndarray, **options: bool) -> bytes:
    """The bytes of a .npy file."""
    from io import BytesIO

    with BytesIO() as file:
        np.save(file, array, **options)
        return file.getvalue()


GOOD = saved(np.array(POINTS))
LISTS = [
    bad("a pickle named .npy", "it is no .npy file, or its header is damaged", "a.npy", pickle.dumps(Evil())),
    bad(
        "an array of pickled objects",
        "values of type object",
        "a.npy",
        saved(np.array([Evil(), 1], object), allow_pickle=True),
    ),
    bad(
        "code in the header of an array",
        "it is no .npy file, or its header is damaged",
        "a.npy",
        header("__import__('os').system('touch pwned')"),
    ),
    bad(
        "a header of nested brackets",
        "it is no .npy file, or its header is damaged",
        "a.npy",
        header("(" * 5000),
    ),
    bad(
        "a header of 4 GB",
        "it is no .npy file, or its header is damaged",
        "a.npy",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff(",
    ),
    bad(
        "an array that promises terabytes",
        "its header promises an array (1000000000000, 3), but 48 bytes follow",
        "a.npy",
        of("'<f8'", "(1000000000000, 3)", bytes(48)),
    ),
    bad(
        "an array with a negative size",
        "its header promises an array (-2, 3)",
        "a.npy",
        of("'<f8'", "(-2, 3)", bytes(48)),
    ),
    bad("an array cut short", "but 43 bytes follow", "a.npy", GOOD[:-5]),
    bad("an array cut in its header", "it is no .npy file, or its header is damaged", "a.npy", GOOD[:20]),
    bad(
        "an array of a later version",
        "it is no .npy file, or its header is damaged",
        "a.npy",
        GOOD[:6] + b"\x09\x00" + GOOD[8:],
    ),
    bad("an array of texts", "values of type <U4", "a.npy", of("'<U4'", "(2, 3)", bytes(96))),
    bad(
        "an array of complex numbers", "values of type complex128", "a.npy", of("'<c16'", "(2, 3)", bytes(96))
    ),
    bad("an array of dates", "values of type datetime64", "a.npy", of("'<M8[s]'", "(2, 3)", bytes(48))),
    bad("an array of infinities", "not finite", "a.npy", saved(np.full((2, 3), np.inf))),
    bad("one number in place of an array", "holds () values", "a.npy", saved(np.array(3.0))),
    bad("a pipe as landmarks", "it is no file", "a.npy", "pipe"),
    bad("a device as landmarks", "it is no file", "a.csv", "device"),
    bad("landmarks of a terabyte", "1048576 MB", "a.csv", "terabyte"),
    bad("landmarks in UTF-16", "can't decode", "a.csv", CSV.encode("utf-16")),
    bad("a quote that is not closed in a list", "unexpected end of data", "a.csv", CSV.replace("4", '"4')),
    bad(
        "a quote that swallows a landmark",
        "line 3 holds a line break in quotes",
        "a.csv",
        'x,y,z,n\n1,2,3,"l\n4,5,6,r"\n7,8,9,l\n',
    ),
    bad("1_0 in place of a number", "or no number", "a.csv", CSV.replace("1", "1_0")),
    bad("0x10 in place of a number", "could not convert", "a.csv", CSV.replace("1", "0x10")),
    bad("1e400 as a coordinate", "not finite", "a.csv", CSV.replace("1", "1e400")),
    bad("100,000 brackets", "its columns are", "a.csv", "[" * 100_000),
    Case(
        "a list with an ending in capitals",
        "as it is",
        "endings are known in any case",
        points("A.NPY", GOOD),
        POINTS,
    ),
    Case(
        "a list with a byte order mark and old line ends",
        "as it is",
        "any line ends will do",
        points("a.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r").encode()),
        POINTS,
    ),
]
CARD = {
    "id": "0123456789abcdef",
    "axes": "LPS",
    "spacing_mm": 1.0,
    "patch_voxels": 32,
    "pitch_mm": 26.0,
    "landmarks_mm": POINTS,
    "lobes": None,
    "neighbours": [[0, 1]],
}


def card(**changes: object) -> Callable[[Path], object]:
    """Writes atlas.json with these changes and reads it."""

    def make(folder: Path) -> object:
        (folder / "atlas.json").write_text(json.dumps({**CARD, **changes}))
        return read_atlas(folder).landmarks_mm.tolist()

    return make


def text(content: str) -> Callable[[Path], object]:
    """Writes atlas.json and reads it."""

    def make(folder: Path) -> object:
        (folder / "atlas.json").write_text(content)
        return read_atlas(folder).id

    return make


CARDS = [
    Case("an atlas.json as it should be", "as it is", "it holds together", card(), POINTS),
    Case("an atlas.json of 100,000 brackets", "error", "nested too deeply", text("[" * 100_000)),
    Case("an atlas.json that is a list", "error", "holds no atlas", text("[1, 2]")),
    Case("an atlas.json cut short", "error", "holds no atlas", text(json.dumps(CARD)[:100])),
    Case("an atlas.json without a key", "error", "'axes'", text('{"id": "a"}')),
    Case(
        "NaN among the landmarks",
        "error",
        "should be two points or more",
        card(landmarks_mm=[[1, 2, 3], [4, 5, float("nan")]]),
    ),
    Case("a landmark with two numbers", "error", "holds no atlas", card(landmarks_mm=[[1, 2, 3], [4, 5]])),
    Case(
        "neighbours that are no landmarks",
        "error",
        "neighbours name landmarks that are not there",
        card(neighbours=[[0, 7]]),
    ),
    Case("a neighbour beyond 64 bits", "error", "holds no atlas", card(neighbours=[[0, 10**30]])),
    Case("a negative spacing of the atlas", "error", "spacing_mm is -1", card(spacing_mm=-1)),
    Case("an id that is no text", "error", "id and axes should be texts", card(id=["../x"])),
]
