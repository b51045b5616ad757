"""How things that are no files, and odd names, are made."""

import gzip
import os
import socket
import tarfile
import zipfile
from pathlib import Path

import SimpleITK as sitk
from inputs.good import any_format, dicom, hu, itk, nifti, replaced


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def bound_socket(path: Path) -> Path:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)
    return path


def linked(path: Path, target: Path | str) -> Path:
    path.symlink_to(target)
    return path


def folder_of_texts(path: Path) -> Path:
    path.mkdir()
    (path / "notes.txt").write_text("no slice")
    fifo(path / "fifo")
    return path


def unreadable(path: Path) -> Path:
    path.chmod(0)
    return path


def loops_inside(folder: Path) -> Path:
    """A link to the folder itself, one to itself, one to nowhere, a FIFO and a device among the slices."""
    scan = dicom(folder / "scan")
    linked(scan / "above", "..")
    linked(scan / "itself", "itself")
    linked(scan / "nowhere", "not-there")
    linked(scan / "zeros", "/dev/zero")
    fifo(scan / "fifo")
    return scan


def half_hidden(folder: Path) -> Path:
    """Half of the slices lie in a folder that may not be opened."""
    scan = dicom(folder / "scan")
    (scan / "more").mkdir()
    for path in sorted(p for p in scan.iterdir() if p.is_file())[::2]:
        path.rename(scan / "more" / path.name)
    unreadable(scan / "more")
    return scan


def one_link(folder: Path) -> Path:
    """Half of the slices are links, as data managers make them."""
    scan, kept = dicom(folder / "scan"), folder / "kept"
    kept.mkdir()
    for path in sorted(scan.iterdir())[::2]:
        path.rename(kept / path.name)
        path.symlink_to(kept / path.name)
    return scan


def linked_half(folder: Path) -> Path:
    """Half of the slices lie in a folder to which there is a link."""
    scan, kept = dicom(folder / "scan"), folder / "kept"
    kept.mkdir()
    for path in sorted(scan.iterdir(), key=lambda p: p.name)[::2]:
        path.rename(kept / path.name)
    return linked(scan / "more", kept).parent


def named_slices(folder: Path, name: bytes) -> Path:
    scan = dicom(folder / "scan")
    for number, path in enumerate(sorted(scan.iterdir())):
        path.rename(scan / os.fsdecode(name + str(number).encode()))
    return scan


def renamed(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


def pointing(folder: Path, target: str, name: str = "a.mhd") -> Path:
    """A header whose voxels are said to lie elsewhere."""
    path = itk(folder / name, packed=False)
    raw = path.with_suffix(".raw").name
    key = "ElementDataFile = " if name.endswith("mhd") else "data file: "
    return replaced(path, f"{key}{raw}".encode(), f"{key}{target}".encode())


def outside(folder: Path) -> Path:
    (folder / "scan").mkdir()
    path = pointing(folder / "scan", "../a.raw")
    (folder / "scan/a.raw").rename(folder / "a.raw")
    return path


def many_files(folder: Path) -> Path:
    """One file for each slice."""
    for number, plane in enumerate(hu()):
        (folder / f"s{number:02}.raw").write_bytes(plane.tobytes())
    return pointing(folder, f"s%02d.raw 0 {len(hu()) - 1} 1")


def zipped(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.write(nifti(path.with_name("a.nii")), "../a.nii")
    return path


def tarred(path: Path) -> Path:
    nifti(path.with_name("inside.nii"))
    with tarfile.open(path, "w:gz") as file:
        file.add(path.with_name("inside.nii"), "../../a.nii")
    return path


def really(folder: Path, kind: str, name: str) -> Path:
    """A file of one format with the ending of another."""
    return renamed(itk(folder / kind), name)


def packed(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(gzip.compress(nifti(folder / "b.nii").read_bytes()))
    return folder / name


def analyze(folder: Path) -> Path:
    sitk.WriteImage(sitk.ReadImage(str(nifti(folder / "a.nii"))), str(folder / "a.img"))
    return folder / "a.hdr"


def one_slice_file(folder: Path) -> Path:
    return sorted(dicom(folder / "scan", hu()[:1]).iterdir())[0]


def upper(folder: Path, name: str) -> Path:
    return renamed(any_format(folder / name.lower()), name)
