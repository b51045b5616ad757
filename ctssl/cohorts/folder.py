"""A folder of the user's own scans: a manifest and a config to start from."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ctssl.cohorts.written import Row, check_free, write_files
from ctssl.errors import ManifestError
from ctssl.log import tell
from ctssl.table import CONTROL

MASK_NAME = re.compile(r"(?<![a-z])(mask|seg|segmentation|label|labels)(?![a-z])", re.IGNORECASE)
MASK_FOLDER = re.compile(
    r"(.*[^a-z])?(masks?([^a-z].*)?|(segmentation|label)s?(tr|ts|va)?)|segs?", re.IGNORECASE
)
"""Lung_Mask, labelsTr; but scans may lie in COVID-19-CT-Seg_20cases."""

MASKS = "as masks, by the names of files or folders"
GONE = "as links that lead nowhere (to fetch: datalad get, dvc pull)"
LINKED = "as links to folders elsewhere, which are not followed (name the folder itself)"
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_DICOM_MARK = b"DICM"

CONFIG = """# Written by `ctssl init`. What is not here comes from config.yaml at the workflow's root.
manifest: null
results: results

mask:
  method: lungmask # threshold needs no weights, and is for scans without much disease

pretraining:
  device: cuda # cpu works and is slow
  threads: 8

runs:
  - name: context-aware
    label: Ours
    method: context-aware

evaluation:
  folds: 5
  targets: [] # after adding a column of labels to scans.csv:
  # - {name: fev1pp, column: fev1pp, task: regress, log: true}
  # - {name: gold, column: gold, task: classify}
"""
"""What a study of one's own begins with."""

NAMED = "Their ids come from the names of files, and stand in every report; --numbered makes others."
"""What is said where they do."""


def write_study(folder: Path, to: Path, *, numbered: bool = False) -> str:
    """What was written and what to run next; writes `scans.csv` and `config.yaml` into `to`.

    Every image file below the folder, and every folder that holds DICOM slices, becomes a scan. Its id
    comes from its path; the subject is the scan until the user says otherwise.

    Args:
        folder: with the scans.
        to: where both files go.
        numbered: ids are scan0001 and so on, and tell nothing of paths, in which names of people may be.

    Raises:
        ManifestError: no scans found, or files that would be overwritten.
    """
    check_free(to)
    skipped: dict[str, list[Path]] = {}
    images = find_images(folder.absolute(), skipped)
    for why, paths in skipped.items():
        tell(f"passed over, {why}: {', '.join(map(repr, map(str, paths[:3])))}" + ", ..." * (len(paths) > 3))
    if not images:
        raise ManifestError(
            f"{folder} holds no scans: no file ending in {', '.join(SUFFIXES)}, no folder of DICOM slices",
            "name the folder that holds them",
        )
    named = zip(numbers(len(images)) if numbered else ids(images, folder), images, strict=True)
    rows: list[Row] = [{"scan": scan, "subject": scan, "image": image} for scan, image in named]
    table, command = write_files(to, (), rows, CONFIG)
    warned = [] if numbered else [NAMED]
    return "\n".join([f"{len(images)} scans are in {table}", *warned, f"Look at it, then run:\n  {command}"])


def find_images(folder: Path, skipped: dict[str, list[Path]] | None = None) -> list[Path]:
    """Image files and DICOM folders below a folder, sorted; hidden ones and masks are passed over.

    Args:
        folder: is looked through at any depth; links to folders are not followed.
        skipped: gets what is passed over, but for hidden files, below the reason.

    Raises:
        OSError: a folder or file cannot be read.
    """
    skipped = {} if skipped is None else skipped
    below = list(visible(folder))
    slices = {path for path in (folder, *below) if path.is_dir() and _holds_dicom(path)}
    named = [path for path in below if path.name.lower().endswith(SUFFIXES)]
    files = {path for path in named if path.is_file()}
    masks = {path for path in files | slices if _is_mask(path.relative_to(folder), path in slices)}
    links = [path for path in find_links(folder, below) if path not in slices]
    gone = [path for path in named if path.is_symlink() and not path.exists()]
    skipped |= {why: paths for why, paths in ((GONE, gone), (LINKED, links)) if paths}
    own = {os.path.realpath(path) for path in files | slices if not path.is_symlink()}
    holding = {above for path in slices for above in path.parents}
    found = []
    for path in sorted(files | slices):
        if path in masks:
            reason = MASKS
        elif path.is_symlink() and os.path.realpath(path) in own:  # git-annex keeps files in a hidden folder
            reason = "as links to what is below the folder, too"
        elif path in holding and path in slices:
            reason = "as DICOM folders that hold others"  # reading them would read those
        elif not _can_be_named(path):
            reason = "as a table cannot hold the name (line breaks, blanks at its end, not UTF-8)"
        else:
            found.append(path)
            continue
        skipped.setdefault(reason, []).append(path)
    return found


def visible(folder: Path) -> Iterator[Path]:
    """Files and folders below a folder, but for hidden ones and what is in them."""

    def fail(error: OSError) -> None:
        raise error

    for root, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in (*folders, *files) if not name.startswith("."))


def find_links(folder: Path, below: Iterable[Path]) -> list[Path]:
    """Of what is visible below a folder, the links to folders whose content is not, sorted."""
    root = Path(os.path.realpath(folder))

    def is_seen(path: Path) -> bool:
        real = Path(os.path.realpath(path))
        return real.is_relative_to(root) and not any(p.startswith(".") for p in real.relative_to(root).parts)

    return sorted(path for path in below if path.is_symlink() and path.is_dir() and not is_seen(path))


def _is_mask(below: Path, is_folder: bool) -> bool:
    """Whether the name of an image, or of a folder that it lies in, says that it is a mask."""
    folders = below.parts if is_folder else below.parts[:-1]
    named_so = not is_folder and MASK_NAME.search(below.name)
    return bool(named_so) or any(MASK_FOLDER.fullmatch(name) for name in folders)


def _can_be_named(path: Path) -> bool:
    """Whether the manifest's reader gives this path back."""
    text = str(path)
    utf8 = not any("\udc80" <= letter <= "\udcff" for letter in text)  # how Python tells of other bytes
    return utf8 and text == text.strip() and not CONTROL.search(text)


def numbers(count: int) -> list[str]:
    """Ids that tell nothing of files."""
    return [f"scan{number:04}" for number in range(1, count + 1)]


def ids(images: list[Path], folder: Path) -> list[str]:
    """An id for each image: its name, or its path below the folder where names are not unique."""
    names = [_id(image.name) for image in images]
    if len({name.lower() for name in names}) < len(names):
        names = [_id("_".join(image.relative_to(folder.absolute()).parts)) for image in images]
    taken: set[str] = set()
    for number, name in enumerate(names):
        unique, count = name, 2
        while unique.lower() in taken:
            unique, count = f"{name[:95]}_{count}", count + 1
        taken.add(unique.lower())
        names[number] = unique
    return names


def _id(name: str) -> str:
    lower = name.lower()
    suffix = max((s for s in SUFFIXES if lower.endswith(s)), key=len, default="")
    stem = name[: len(name) - len(suffix)]
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("_.-")[:100] or "scan"


def _holds_dicom(folder: Path) -> bool:
    """Whether one of the first files of a folder is a DICOM slice."""
    files = (p for p in folder.iterdir() if p.is_file() and p.name != "DICOMDIR")
    for path in sorted(files)[:5]:
        with path.open("rb") as file:
            if file.read(132)[128:] == _DICOM_MARK:
                return True
    return False
