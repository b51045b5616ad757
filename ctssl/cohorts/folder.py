"""A folder of the user's own scans: a manifest and a config to start from."""

import csv
import re
from pathlib import Path
from shlex import quote

from ctssl.errors import ManifestError

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


def write_study(folder: Path, to: Path) -> str:
    """What was written and what to run next; writes `scans.csv` and `config.yaml` into `to`.

    Every image file below the folder, and every folder that holds DICOM slices, becomes a scan. Its id
    comes from its path; the subject is the scan until the user says otherwise.

    Raises:
        ManifestError: no scans found, or files that would be overwritten.
    """
    config, table = (to / "config.yaml").absolute(), (to / "scans.csv").absolute()
    there = [str(path) for path in (config, table) if path.exists()]
    if there:
        raise ManifestError(
            f"{' and '.join(there)} exist already", "give a new folder: ctssl init FOLDER --to my-study"
        )
    images = find_images(folder.absolute())
    if not images:
        raise ManifestError(
            f"{folder} holds no scans: no file ending in {', '.join(SUFFIXES)}, no folder of DICOM slices",
            "name the folder that holds them",
        )
    to.mkdir(parents=True, exist_ok=True)
    names = ids(images, folder)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["scan", "subject", "image", "mask", "exclude", "exclude_reason"])
        writer.writerows([scan, scan, image, "", "", ""] for scan, image in zip(names, images, strict=True))
    config.write_text(
        _CONFIG.format(manifest=_yaml(table), results=_yaml(to.absolute() / "results")), encoding="utf-8"
    )
    snakefile = Path(__file__).parents[2] / "Snakefile"
    return (
        f"{len(images)} scans are in {table}\n"
        f"Look at it, then run:\n"
        f"  snakemake --snakefile {quote(str(snakefile))} --cores 8 --resources gpu=1"
        f" --configfile {quote(str(config))}"
    )


def find_images(folder: Path) -> list[Path]:
    """Image files and DICOM folders below a folder, sorted; hidden ones and lung masks are passed over."""
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        is_mask = MASK_NAME.search(path.name)
        is_image = path.is_file() and path.name.lower().endswith(SUFFIXES) and not is_mask
        if is_image or (path.is_dir() and _holds_dicom(path)):
            found.append(path)
    return found or ([folder] if _holds_dicom(folder) else [])


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
