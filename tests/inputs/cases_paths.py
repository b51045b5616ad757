"""What is no file, files in the wrong place, and names that a shell or a library may stumble over."""

from collections.abc import Callable
from pathlib import Path

from inputs.good import Case, Row, dicom, itk, nifti, one_quick
from inputs.make_paths import (
    analyze,
    bound_socket,
    fifo,
    folder_of_texts,
    half_hidden,
    linked,
    linked_half,
    loops_inside,
    many_files,
    named_slices,
    one_link,
    one_slice_file,
    outside,
    packed,
    pointing,
    really,
    renamed,
    tarred,
    unreadable,
    upper,
    zipped,
)

_NAMES = {
    "spaces": "my scan of may.nrrd",
    "letters of many languages": "Brustkorb-胸部-ΘΩ-é.nrrd",
    "200 characters": f"{'x' * 195}.nrrd",
    "brackets, a star and a question mark": "a[1](2){scan}*?.nrrd",
    "a command": "$(touch pwned)`touch pwned`;'\".nrrd",
    "a percent sign": "a%03d.nrrd",
    "a line break": "a\nb.nrrd",
    "a dash before": "-rf.nrrd",
    "a dot before": ".hidden.nrrd",
    "a comma and a backslash": "a,b\\c.nrrd",
}


def _named(name: str) -> Callable[[Path], Path]:
    return lambda folder: itk(folder / name)


def _named_folder(name: str) -> Callable[[Path], Path]:
    return lambda folder: dicom(folder / name)


CASES = [
    Case("a path that leads nowhere", lambda f: f / "a.nii", error="does not exist"),
    Case("a FIFO named a.nii", lambda f: fifo(f / "a.nii"), error="a pipe, a socket or a device"),
    Case("a FIFO named a.nrrd", lambda f: fifo(f / "a.nrrd"), error="a pipe, a socket or a device"),
    Case("a socket named a.nii", lambda f: bound_socket(f / "a.nii"), error="a pipe, a socket or a device"),
    Case(
        "a link to a device, /dev/zero",
        lambda f: linked(f / "a.nii", "/dev/zero"),
        error="a pipe, a socket or a device",
    ),
    Case("a link to nowhere", lambda f: linked(f / "a.nii", "b.nii"), error="does not exist"),
    Case("a link to itself", lambda f: linked(f / "a.nii", "a.nii"), error="does not exist|cannot be opened"),
    Case("a link to the scan", lambda f: linked(f / "a.nii", nifti(f / "b.nii")), why="links are followed"),
    Case(
        "a file that nobody may read",
        lambda f: unreadable(nifti(f / "a.nii")),
        error="cannot be opened: Permission denied",
    ),
    Case(
        "a folder that nobody may open",
        lambda f: unreadable(dicom(f / "scan")),
        error="cannot be opened: Permission denied",
    ),
    Case("a folder of other files", lambda f: folder_of_texts(f / "scan"), error="holds no DICOM series"),
    Case("an empty folder", lambda f: [(f / "scan").mkdir(), f / "scan"][1], error="holds no DICOM series"),
    Case(
        "a file inside of a file",
        lambda f: nifti(f / "a.nii") / "b.nii",
        error="does not exist|cannot be opened",
    ),
    Case(
        "a DICOM folder with loops of links, a FIFO and a device",
        loops_inside,
        why="what is no file is passed over",
    ),
    Case(
        "a DICOM folder whose half may not be opened",
        half_hidden,
        error="cannot be opened: Permission denied",
    ),
    Case("a DICOM folder of links to slices", one_link, why="links to files are followed"),
    Case(
        "a DICOM folder with a link to a folder that holds half of the slices",
        linked_half,
        error="missing|link",
    ),
    Case(
        "DICOM slices with bytes in their names that are no UTF-8",
        lambda f: named_slices(f, b"Sch\xe4del"),
        why="a name is bytes",
    ),
    *(
        Case(f"a name with {what}", _named(name), why="a name is only a name")
        for what, name in _NAMES.items()
    ),
    *one_quick(
        Case(
            f"a DICOM folder's name with {what}",
            _named_folder(_NAMES[what].removesuffix(".nrrd")),
            why="a name is only a name",
        )
        for what in (
            "letters of many languages",
            "a command",
            "brackets, a star and a question mark",
            "a line break",
        )
    ),
    Case(
        "a damaged file's name with a line break",
        lambda f: Path(f / "a\nb.nrrd").write_bytes(b"NRRD") and f / "a\nb.nrrd",
        error=r"^[^\n]*$",
    ),
    Case("a.NII", lambda f: upper(f, "A.NII"), why="capitals are the same ending"),
    Case("a.NII.GZ", lambda f: upper(f, "A.NII.GZ"), why="capitals are the same ending"),
    Case("a.NRRD", lambda f: upper(f, "A.NRRD"), why="capitals are the same ending"),
    Case("a.MHA", lambda f: upper(f, "A.MHA"), why="capitals are the same ending"),
    Case("an NRRD named a.nii", lambda f: really(f, "b.nrrd", "a.nii"), error="begins as NRRD"),
    Case("a MetaImage named a.nrrd", lambda f: really(f, "b.mha", "a.nrrd"), error="cannot be read|damaged"),
    Case("a NIfTI named a.mha", lambda f: really(f, "b.nii", "a.mha"), error="cannot be read|damaged"),
    Case("a packed NIfTI named a.nii", lambda f: packed(f, "a.nii"), error="begins as a file packed by gzip"),
    Case("a plain NIfTI named a.nii.gz", lambda f: renamed(nifti(f / "b.nii"), "a.nii.gz"), error="damaged"),
    Case("a zip archive", lambda f: zipped(f / "a.zip"), error="no known ending"),
    Case(
        "a zip archive named a.nii",
        lambda f: zipped(f / "b.zip").rename(f / "a.nii"),
        error="begins as a ZIP archive",
    ),
    Case("a tar archive", lambda f: tarred(f / "a.tar.gz"), error="no known ending"),
    Case("a tar archive named a.nii.gz", lambda f: tarred(f / "a.nii.gz"), error="damaged"),
    Case(
        "a picture",
        lambda f: Path(f / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 JFIF") and f / "a.jpg",
        error="no known ending",
    ),
    Case("an Analyze pair, a.hdr and a.img", analyze, error="no known ending"),
    Case("one DICOM slice as a file", one_slice_file, error="one DICOM file"),
    Case("a.dcm", lambda f: renamed(one_slice_file(f), "a.dcm"), error="one DICOM file"),
    Case(
        "a series_uid with a file",
        lambda f: Row(nifti(f / "a.nii"), series_uid="1.2.3"),
        error="a series_uid is given, but the image is a file",
    ),
    Case(
        "a header whose voxels are said to be /etc/passwd",
        lambda f: pointing(f, "/etc/passwd"),
        error="a file outside of its own folder",
    ),
    Case(
        "a header whose voxels are said to be ../../../../etc/passwd",
        lambda f: pointing(f, "../../../../etc/passwd"),
        error="a file outside of its own folder",
    ),
    Case(
        "an NRRD header whose voxels are said to be /etc/passwd",
        lambda f: pointing(f, "/etc/passwd", "a.nhdr"),
        error="a file outside of its own folder",
    ),
    Case("a header whose voxels lie in the folder above", outside, error="a file outside of its own folder"),
    Case("a header that names itself as its voxels", lambda f: pointing(f, "a.mhd"), error="damaged"),
    Case(
        "a header whose voxels are said to be a FIFO",
        lambda f: pointing(f, fifo(f / "pipe.raw").name),
        error="which is not there",
    ),
    Case(
        "an NRRD header whose voxels are said to be a FIFO",
        lambda f: pointing(f, fifo(f / "pipe.raw").name, "a.nhdr"),
        error="which is not there",
    ),
    Case("a header with a file for each slice", many_files, error="spread over several files"),
    Case(
        "a header with a list of files, a FIFO among them",
        lambda f: pointing(f, f"LIST\n{fifo(f / 'pipe').name}"),
        error="spread over several files",
    ),
]
