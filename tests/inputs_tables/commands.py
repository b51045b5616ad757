"""Odd command lines: what they are called, what they get."""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from inputs_tables.page import Case

from ctssl.cli import main
from ctssl.errors import CtsslError
from ctssl.manifest import read_manifest

SLICE = b"\0" * 128 + b"DICM"


def call(*args: str) -> None:
    """Runs `ctssl`; what it says when it leaves with 2 is raised.

    Raises:
        CtsslError: the fault, with the advice or the usage.
    """
    said, code = io.StringIO(), None
    try:
        with (
            mock.patch.object(sys, "argv", ["ctssl", *args]),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            main()
    except SystemExit as left:
        code = left.code
    if not code:
        sys.stderr.write(said.getvalue())
        return
    assert code == 2
    head, _, message = said.getvalue().partition("rror: ")
    message, _, advice = message.partition("\n  What to do: ")
    raise CtsslError(message.strip(), advice or head)


def bad(name: str, words: str, line: str) -> Case:
    """A command line, with a file `a.nii` and a pipe in the folder F."""

    def make(folder: Path) -> None:
        (folder / "a.nii").write_bytes(b"no image")
        os.mkfifo(folder / "pipe.nii")
        (folder / "empty").mkdir()
        call(*(word.replace("F/", f"{folder}/").replace("EMPTY", "") for word in line.split()))

    return Case(f"ctssl {line}", "error", words, make)


def init(
    name: str,
    happens: str,
    words: str,
    fill: Callable[[Path], object],
    result: object = None,
    *,
    slow: bool = False,
) -> Case:
    """`ctssl init` of a folder that is filled so; every scan of the table is there."""

    def make(folder: Path) -> object:
        (folder / "in").mkdir()
        fill(folder / "in")
        call("init", str(folder / "in"), "--to", str(folder / "study"))
        rows = read_manifest(folder / "study/scans.csv").rows
        assert all(row.image.exists() for row in rows)
        return [(row.scan, os.path.relpath(row.image, folder / "in")) for row in rows]

    return Case(f"ctssl init of {name}", happens, words, make, result, slow)


def files(*names: str | bytes) -> Callable[[Path], None]:
    """Fills a folder with files of these names; names of folders end in '/'."""

    def fill(folder: Path) -> None:
        for name in names:
            path = os.path.join(os.fsencode(folder), os.fsencode(name))  # noqa: PTH118 (bytes)
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
            if not os.path.isdir(path):  # noqa: PTH112
                Path(os.fsdecode(path)).write_bytes(SLICE if path.endswith(b".dcm") else b"an image")

    return fill


def strange(folder: Path) -> None:
    """Pipes, loops, links, and one image."""
    files("a.nii", "sub/")(folder)
    os.mkfifo(folder / "pipe.nii")
    (folder / "loop").symlink_to(folder)
    (folder / "self.nii").symlink_to(folder / "self.nii")
    (folder / "gone.nii").symlink_to(folder / "nowhere.nii")
    (folder / "again.nii").symlink_to(folder / "a.nii")


def annexed(folder: Path) -> None:
    """A data set of DataLad: two scans that were fetched, one that was not."""
    files(*(f".git/annex/objects/{key}/{key}.nii" for key in "abc"))(folder)
    for key in "abc":
        (folder / f"sub-{key}").mkdir()
        (folder / f"sub-{key}/{key}.nii").symlink_to(f"../.git/annex/objects/{key}/{key}.nii")
    (folder / ".git/annex/objects/c/c.nii").unlink()


NO_FILE, UP = "does not exist", "not excluded: ../up"
FOLDERS = [
    init(
        "names in many tongues, with quotes, commas, $HOME and ~",
        "as it is",
        "the table gives each path back",
        files("肺.nii", '"a, b".nii', "$HOME/c.nii", "~/d.nii"),
        [("a_b", '"a, b".nii'), ("c", "$HOME/c.nii"), ("d", "~/d.nii"), ("scan", "肺.nii")],
    ),
    init(
        "names that differ in case alone",
        "as it is",
        "the second gets a number",
        files("A.nii", "a.nii"),
        [("A", "A.nii"), ("a_2", "a.nii")],
    ),
    init(
        "names with line breaks and other bytes",
        "repaired",
        "passed over, as a table cannot hold the name",
        files("a.nii", "new\nline.nii", b"latin-\xe4.nii", "blank /1.dcm"),
        [("a", "a.nii")],
    ),
    init(
        "pipes, links that lead nowhere, loops",
        "repaired",
        "passed over, as links to what is below the folder",
        strange,
        [("a", "a.nii")],
    ),
    init(
        "links into the hidden folder of git-annex, one not fetched",
        "repaired",
        "passed over, as links that lead nowhere",
        annexed,
        [("a", "sub-a/a.nii"), ("b", "sub-b/b.nii")],
    ),
    init(
        "a DICOM folder inside another",
        "repaired",
        "passed over, as DICOM folders that hold others",
        files("p/1.dcm", "p/s/2.dcm"),
        [("s", "p/s")],
    ),
    init(
        "10,000 files",
        "as it is",
        "takes seconds",
        files(*(f"s{n:05}.nii" for n in range(10_000))),
        [(f"s{n:05}", f"s{n:05}.nii") for n in range(10_000)],
        slow=True,
    ),
    init("a folder without images", "error", "holds no scans", files("a.txt")),
]
LINES = [
    *(
        bad("", words, line)
        for line, words in {
            "init F/nowhere": NO_FILE,
            "init F/a.nii": "is a file",
            "init F/empty --to F/a.nii": "holds no scans",
            "mask F/nowhere.nii F/out.nii --method threshold": NO_FILE,
            "mask F/pipe.nii F/out.nii --method threshold": "a pipe, a socket or a device",
            "mask F/a.nii F/a.nii": "is the scan itself",
            "mask F/a.nii F/out.txt": "cannot be written as out.txt",
            "mask F/a.nii F/a.nii/out.nii --method threshold": "cannot be written",
            "mask F/a.nii F/out.nii --method magic": "Invalid value for '--method'",
            "register F/nowhere.nii --atlas F/a.nii --out F/out": NO_FILE,
            "register F/a.nii --out F/out": "Missing option '--atlas'",
            "phantom F/out --scans -3": "not in the range",
            "phantom F/a.nii": "should be a folder, but is a file",
            "phantom F/out --hard nothing": "hard cases are",
            "samples F/a.nii": "File exists",
            "status --results F/nowhere": "holds no prepared scans",
            "status --results F/a.nii": "holds no prepared scans",
            "retry ../up --results F/empty": UP,
            "refresh ../up --results F/empty": NO_FILE,
            "refresh . --results F/empty": NO_FILE,
            "show --results F/nowhere": "holds no results",
            "bench dag --scans 0": "not in the range",
            "bench masks F/a.nii": "Missing argument",
            "magic": "No such command",
            "stage store": "Missing option",
        }.items()
    ),
]
