"""MosMedData COVID19_1110: severity by folder, masks of infection for some scans."""

import re
from collections import Counter
from pathlib import Path

from ctssl.cohorts.folder import GONE, LINKED, find_links, visible
from ctssl.cohorts.written import Row, check_free, protocol, write_files
from ctssl.errors import CohortError

PUBLISHED = {"CT-0": 254, "CT-1": 684, "CT-2": 125, "CT-3": 45, "CT-4": 2}
"""Class -> scans of the published collection. Source: methods of MosMedData, Morozov et al. 2020."""

MERGED = {"CT-3": "CT-3-4", "CT-4": "CT-3-4"}
LABELS = ("severity", "severity4", "infection_mask")

_CLASS = re.compile(r"CT-?\d+", re.IGNORECASE)
_STUDY = re.compile(r"(study_\d{4})\.nii(\.gz)?", re.IGNORECASE)
_MASK = re.compile(r"(study_\d{4})_mask\.nii(\.gz)?", re.IGNORECASE)


def write_mosmed(folder: Path, to: Path) -> str:
    """What was written and what to run next; writes scans.csv and config.yaml into `to`.

    A study is a subject. `severity` is the name of its folder, `severity4` has CT-3 and CT-4 as one class.
    Masks of infection go into a column of their own: they are no masks of lungs.

    Args:
        folder: holds studies/CT-0 ... CT-4 and masks/, or CT-0 ... themselves, at any depth.
        to: where both files go.

    Raises:
        ManifestError: a file would be overwritten.
        CohortError: no studies, a folder of an unknown class, a study in two of them.
    """
    check_free(to)
    said: list[str] = []
    studies, masks = _read(folder.absolute(), said)
    rows: list[Row] = [
        {
            **{"scan": scan, "subject": scan, "image": image, "infection_mask": masks.pop(scan, "")},
            **{"severity": severity, "severity4": MERGED.get(severity, severity)},
        }
        for scan, (severity, image) in sorted(studies.items())
    ]
    if masks:
        said.append(f"masks without a study: {len(masks)}, as {min(masks)}")
    counts = Counter(severity for severity, _ in studies.values())
    said.append("severity: " + ", ".join(f"{name} {counts[name]}" for name in PUBLISHED))
    if counts != PUBLISHED:
        said.append("published: " + ", ".join(f"{name} {count}" for name, count in PUBLISHED.items()))
    said.append(f"infection_mask: of {sum(row['infection_mask'] != '' for row in rows)} scans")
    table, command = write_files(to, LABELS, rows, protocol("mosmed"))
    head = f"{len(rows)} scans are in {table}"
    return "\n  ".join([head, *said]) + f"\nLook at it, then run:\n  {command}"


def _read(folder: Path, said: list[str]) -> tuple[dict[str, tuple[str, Path]], dict[str, Path]]:
    """Study -> its class and image; study -> its mask."""
    studies: dict[str, tuple[str, Path]] = {}
    masks: dict[str, tuple[str, Path]] = {}
    strange: list[Path] = []
    gone: list[Path] = []
    below = sorted(visible(folder))
    for path in below:
        if path.is_dir():
            if _CLASS.fullmatch(path.name) and path.name not in PUBLISHED:
                raise CohortError(
                    f"{path} is named as a class, but classes are {', '.join(PUBLISHED)}",
                    "rename the folder, or move it elsewhere",
                )
        elif path.is_symlink() and not path.exists():
            gone.append(path)
        elif mask := _MASK.fullmatch(path.name):
            _add(masks, mask[1].lower(), "", path)
        elif path.parent.name in PUBLISHED:
            if study := _STUDY.fullmatch(path.name):
                _add(studies, study[1].lower(), path.parent.name, path)
            else:
                strange.append(path)
        elif _STUDY.fullmatch(path.name):
            raise CohortError(
                f"{path} has no class: it is in none of the folders {', '.join(PUBLISHED)}",
                "put it into the folder of its class, or move it elsewhere",
            )
    over = {"not named study_0001.nii.gz": strange, GONE: gone, LINKED: find_links(folder, below)}
    said += [f"passed over, {why}: {len(paths)}, as {paths[0]}" for why, paths in over.items() if paths]
    if not studies:
        raise CohortError(
            "\n  ".join([f"{folder} holds no studies of MosMedData", *said]),
            "name the folder that holds studies/CT-0/study_0001.nii.gz and so on; unpack archives first",
        )
    return studies, {study: path for study, (_, path) in masks.items()}


def _add(into: dict[str, tuple[str, Path]], study: str, severity: str, path: Path) -> None:
    """Nothing; the study has this class and file."""
    _, before = into.setdefault(study, (severity, path))
    if before != path:
        raise CohortError(f"{study} is there twice: {before} and {path}", "leave one of them")
