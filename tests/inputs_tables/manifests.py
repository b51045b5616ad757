"""Odd and broken manifests: what they are called, their bytes, what they get."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from inputs_tables.page import Case

from ctssl.manifest import read_manifest

GOOD = ["scan,subject,image,age", "a,p1,a.nii,61", "b,p2,sub/b.nii,70"]
TEXT = "\n".join(GOOD) + "\n"
ROWS = [("a", "p1", "a.nii", {"age": "61"}), ("b", "p2", "sub/b.nii", {"age": "70"})]


def rows_of(path: Path) -> list[tuple]:
    """Id, subject, image below the manifest's folder, labels of each row."""
    manifest = read_manifest(path)
    return [(r.scan, r.subject, os.path.relpath(r.image, path.parent), r.labels) for r in manifest.rows]


def read(content: bytes | str) -> Callable[[Path], object]:
    """Writes these bytes as scans.csv and reads it."""

    def make(folder: Path) -> object:
        path = folder / "scans.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return rows_of(path)

    return make


def good(
    name: str, happens: str, words: str, content: bytes | str, rows: object = ROWS, *, slow: bool = False
) -> Case:
    """A table that is taken."""
    return Case(name, happens, words, read(content), rows, slow)


def bad(name: str, words: str, content: bytes | str) -> Case:
    """A table that is refused."""
    return Case(name, "error", words, read(content))


def workbook() -> bytes:
    """A zip archive with the name of a sheet in it."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("xl/worksheets/sheet1.xml", TEXT)
        return file.getvalue()


def with_rows(number: int) -> str:
    """A table of many rows."""
    lines = (f"s{n:06},p{n // 2},images/site {n % 7}/s{n:06}.nii.gz,{n % 90}" for n in range(number))
    return "\n".join([GOOD[0], *lines]) + "\n"


def place(kind: str) -> Callable[[Path], object]:
    """Reads what is no file."""

    def make(folder: Path) -> object:
        path = folder / "scans.csv"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "below a file":
            (folder / "file").touch()
            path = folder / "file/scans.csv"
        elif kind == "terabyte":
            with path.open("wb") as file:
                file.truncate(1 << 40)
        return rows_of(path)

    return make


FORMS = [
    good(
        "a byte order mark (Excel: CSV UTF-8)",
        "as it is",
        "the mark is no part of the first column",
        b"\xef\xbb\xbf" + TEXT.encode(),
    ),
    good(
        "UTF-16 with tabs (Excel: Unicode text)",
        "repaired",
        "UTF-16",
        TEXT.replace(",", "\t").encode("utf-16"),
    ),
    good("UTF-16, high byte first", "repaired", "UTF-16", b"\xfe\xff" + TEXT.encode("utf-16-be")),
    bad("UTF-16 without its mark", "NUL", TEXT.encode("utf-16-le")),
    bad("UTF-16 cut in the middle of a letter", "not UTF-16", TEXT.encode("utf-16")[:-1]),
    bad("Latin-1 with umlauts", "line 3 is not UTF-8", TEXT.replace("sub/", "für/").encode("latin-1")),
    good("tabs", "repaired", "separated by tabs", TEXT.replace(",", "\t")),
    good("semicolons (Excel in Europe)", "repaired", "separated by semicolons", TEXT.replace(",", ";")),
    good(
        "semicolons and decimal commas",
        "repaired",
        "separated by semicolons",
        "scan;image;fev1\na;a.nii;2,35\n",
        [("a", "a", "a.nii", {"fev1": "2,35"})],
    ),
    good(
        "semicolons and quoted cells",
        "repaired",
        "separated by semicolons",
        '"scan";"image"\n"a";"a;b.nii"\n',
        [("a", "a", "a;b.nii", {})],
    ),
    bad(
        "a header line with semicolons and commas",
        "the header line separates by semicolons, but there is 'image,age'",
        "scan;image,age\na;a.nii,3\n",
    ),
    bad(
        "a header line with commas, rows with semicolons",
        "line 2: expected 4 fields, but there are 1",
        "\n".join([GOOD[0], *(line.replace(",", ";") for line in GOOD[1:])]),
    ),
    bad("columns separated by bars", "the column 'scan' is missing", TEXT.replace(",", "|")),
    bad("a first line that says sep=;", "the column 'scan' is missing", "sep=;\n" + TEXT.replace(",", ";")),
    good("Windows line ends", "as it is", "any line ends will do", TEXT.replace("\n", "\r\n")),
    good("old Mac line ends", "as it is", "any line ends will do", TEXT.replace("\n", "\r")),
    good("no line end at the end", "as it is", "any line ends will do", TEXT.rstrip()),
    good(
        "empty lines, also first and last, and rows of commas",
        "as it is",
        "empty lines and rows are passed over",
        "\n\r\n" + TEXT.replace("\nb", "\n\n,,,\n  \nb") + "\n,,,\n\n",
    ),
    good(
        "commas at the ends of all lines",
        "as it is",
        "columns without name and value are passed over",
        TEXT.replace("\n", ",,\n"),
    ),
    bad(
        "a column without a name, but values",
        "line 2: column 3 has no name, but a value",
        "scan,image,,age\na,a.nii,7,61\n",
    ),
    good(
        "a first column without a name (an index of pandas)",
        "repaired",
        "its first column has no name",
        "".join(f"{number},{line}\n" for number, line in zip(("", 0, 1), GOOD, strict=True)),
    ),
    bad(
        "two tables in one file",
        "line 4: the header line again",
        TEXT + TEXT.replace("a,p", "c,p").replace("b,p", "d,p"),
    ),
    good(
        "all cells quoted",
        "as it is",
        "quotes are as csv has them",
        "\n".join('"' + line.replace(",", '","') + '"' for line in GOOD),
    ),
    bad(
        "a quote that is not closed",
        'line 3: a quote (") that opens here is never closed',
        TEXT.replace("sub/b.nii", '"sub/b.nii') + "c,p3,c.nii,5\n",
    ),
    bad(
        "a quote that swallows a row",
        "line 2: the age holds a line break",
        TEXT.replace("61", '"61').replace("70", '70"'),
    ),
    bad("a quote that ends within a cell", "expected after", TEXT.replace("a.nii", '"a".nii')),
    bad("a line break in a cell", "holds a line break", TEXT.replace("a.nii", '"a\n.nii"')),
    bad("an escape sequence in a cell", "control character", TEXT.replace("61", "\x1b[2J61")),
    bad("a NUL byte", "line 3 holds a NUL byte", TEXT.replace("sub/", "s\0b/")),
    bad("a cell of 10 MB", "line 2: field larger than field limit", TEXT.replace("61", "6" * 10**7)),
    good(
        "10,000 columns",
        "as it is",
        "all are labels",
        ",".join(["scan,image", *(f"f{n}" for n in range(9998))])
        + "\n"
        + ",".join(["a,a.nii", *map(str, range(9998))]),
        [("a", "a", "a.nii", {f"f{n}": str(n) for n in range(9998)})],
    ),
    good(
        "100,000 rows",
        "as it is",
        "read in seconds",
        with_rows(100_000),
        [
            (f"s{n:06}", f"p{n // 2}", f"images/site {n % 7}/s{n:06}.nii.gz", {"age": str(n % 90)})
            for n in range(100_000)
        ],
        slow=True,
    ),
    bad(
        "2,000 rows, all with faults",
        "and 1971 more",
        with_rows(2000).replace("images", "~/images").replace("s000000,", "s000000,x y"),
    ),
    bad("a column twice", "the column 'age' comes twice", "scan,image,age,age\na,a.nii,1,2\n"),
    good(
        "Scan, Image and Subject in capitals, with blanks",
        "as it is",
        "own columns are known in any case, blanks do not count",
        " Scan ,SUBJECT,Image,age\n" + TEXT.split("\n", 1)[1],
    ),
    bad("Scan and scan", "the column 'scan' comes twice", "scan,Scan,image\na,b,a.nii\n"),
    bad(
        "a column with a misspelt name",
        "the column 'image' is missing; there is 'imgae'",
        "scan,imgae\na,a.nii\n",
    ),
    bad("a row with too few cells", "line 2: expected 4 fields, but there are 3", GOOD[0] + "\na,p1,a.nii\n"),
    bad(
        "a row with too many cells",
        "line 2: expected 4 fields, but there are 5",
        GOOD[0] + "\na,p1,a.nii,1,2\n",
    ),
    bad(
        "a comma in a cell without quotes, before an empty cell",
        "line 3: expected 4 fields, but there are 5",
        GOOD[0] + "\na,p1,a.nii,1\nb,p,2,b.nii,\n",
    ),
    bad("no bytes", "the column 'scan' is missing", b""),
    bad("only a header line", "there are no rows", GOOD[0] + "\n"),
    bad("a header line without rows, in Windows", "there are no rows", GOOD[0] + "\r\n\r\n"),
    bad("an Excel workbook named .csv", "an Excel workbook", workbook()),
    bad("an old Excel workbook named .csv", "an old Excel workbook", b"\xd0\xcf\x11\xe0" + bytes(600)),
    bad("a gzipped table", "a gzip archive", b"\x1f\x8b\x08" + bytes(30)),
    bad(
        "a web page",
        "the column 'scan' is missing",
        "<!DOCTYPE html>\n<html><body>Please log in</body></html>\n",
    ),
    bad("random bytes", "is not UTF-8", bytes(range(1, 256)) * 4),
]
PLACES = [
    Case("no such file", "error", "No such file", place("none")),
    Case("a folder as manifest", "error", "it is no file", place("folder")),
    Case("a pipe as manifest", "error", "it is no file", place("pipe")),
    Case("a device as manifest", "error", "it is no file", place("device")),
    Case("a link to itself", "error", "symbolic links", place("loop")),
    Case("a path below a file", "error", "Not a directory", place("below a file")),
    Case("a file of a terabyte", "error", "1048576 MB", place("terabyte")),
]
