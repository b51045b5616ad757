"""A folder of the user's own scans: a manifest and a config to start from."""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from ctssl.errors import ManifestError
from ctssl.log import tell
from ctssl.table import CONTROL

MASK_NAME = re.compile(r"(?<![a-z])(mask|seg|segmentation|label|labels)(?![a-z])", re.IGNORECASE)
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_DICOM_MARK = b"DICM"

_CONFIG = """# Written by `ctssl init`. What is not here comes from config.yaml at the workflow's root.
manifest: {manifest}
results: {results}

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
  # - {{name: fev1pp, column: fev1pp, task: regress, log: true}}
  # - {{name: gold, column: gold, task: classify}}
"""


_NAMED = "Their ids come from the names of files, and stand in every report; --numbered makes others.\n"


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
    config, table = (to / "config.yaml").absolute(), (to / "scans.csv").absolute()
    there = [str(path) for path in (config, table) if path.exists()]
    if there:
        raise ManifestError(
            f"{' and '.join(there)} exist already", "give a new folder: ctssl init FOLDER --to my-study"
        )
    skipped: dict[str, list[Path]] = {}
    images = find_images(folder.absolute(), skipped)
    for why, paths in skipped.items():
        tell(f"passed over, {why}: {', '.join(map(repr, map(str, paths[:3])))}" + ", ..." * (len(paths) > 3))
    if not images:
        raise ManifestError(
            f"{folder} holds no scans: no file ending in {', '.join(SUFFIXES)}, no folder of DICOM slices",
            "name the folder that holds them",
        )
    study = os.path.realpath(table)
    around = [image for image in images if study.startswith(os.path.realpath(image) + os.sep)]
    if around:
        raise ManifestError(
            f"the study would lie in {around[0]}, which is a scan", "give another folder with --to"
        )
    to.mkdir(parents=True, exist_ok=True)
    names = [f"scan{n:04}" for n in range(1, len(images) + 1)] if numbered else ids(images, folder)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["scan", "subject", "image", "mask", "exclude", "exclude_reason"])
        writer.writerows([scan, scan, image, "", "", ""] for scan, image in zip(names, images, strict=True))
    config.write_text(
        _CONFIG.format(manifest=_yaml(table), results=_yaml(to.absolute() / "results")), encoding="utf-8"
    )
    snakefile = Path(__file__).parents[2] / "Snakefile"
    return (
        f"{len(images)} scans are in {table}\n{'' if numbered else _NAMED}"
        f"Look at it, then run:\n"
        f"  snakemake --snakefile {quote(str(snakefile))} --cores 8 --resources gpu=1"
        f" --configfile {quote(str(config))}"
    )


def find_images(folder: Path, skipped: dict[str, list[Path]] | None = None) -> list[Path]:
    """Image files and DICOM folders below a folder, sorted; hidden ones and lung masks are passed over.

    Args:
        folder: is looked through at any depth; links to folders are not followed.
        skipped: gets what else is passed over, below the reason.

    Raises:
        OSError: a folder or file cannot be read.
    """
    skipped = {} if skipped is None else skipped
    slices = [path for path in (folder, *_visible(folder)) if path.is_dir() and _holds_dicom(path)]
    named = [path for path in _visible(folder) if _has_image_name(path)]
    files = [path for path in named if path.is_file()]
    if gone := [path for path in named if path.is_symlink() and not path.exists()]:
        skipped["as links that lead nowhere (to fetch: datalad get, dvc pull)"] = gone
    own = {os.path.realpath(path) for path in files + slices if not path.is_symlink()}
    holding = {above for path in slices for above in path.parents}
    found = []
    for path in sorted(files + slices):
        if path.is_symlink() and os.path.realpath(path) in own:  # git-annex keeps files in a hidden folder
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


def _visible(folder: Path) -> Iterator[Path]:
    """Files and folders below a folder, but for hidden ones and what is in them."""

    def fail(error: OSError) -> None:
        raise error

    for root, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in (*folders, *files) if not name.startswith("."))


def _has_image_name(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and not MASK_NAME.search(path.name)


def _can_be_named(path: Path) -> bool:
    """Whether the manifest's reader gives this path back."""
    text = str(path)
    utf8 = not any("\udc80" <= letter <= "\udcff" for letter in text)  # how Python tells of other bytes
    return utf8 and text == text.strip() and not CONTROL.search(text)


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


def _yaml(path: Path) -> str:
    import yaml

    return yaml.safe_dump(str(path), width=10000).strip().removesuffix("...").strip()
