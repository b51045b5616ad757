"""Scans of COPDGene, by the names of files and folders."""

import re
from dataclasses import dataclass
from pathlib import Path

from ctssl.cohorts.folder import SUFFIXES, find_images
from ctssl.errors import CohortError

NAME = re.compile(
    r"(?P<sid>[0-9]{5}[A-Z])_(?P<breath>INSP|EXP)_(?P<kernel>[A-Z0-9]+)(?P<pieces>(_[A-Z0-9]+)*)"
    r"_COPD(?P<visit>[0-9]?)(?P<rest>.*)",
    re.IGNORECASE,
)
"""Of a file or folder: subject, breath, kernel; further pieces, of which three letters are the site."""

RESAMPLED = re.compile(r"_BSpline_Iso[0-9.]+mm", re.IGNORECASE)
SMOOTH = ("STD", "STANDARD", "B31F", "B30F", "B35F", "B")
"""Kernels, the preferred first. The others follow by name."""


@dataclass(frozen=True)
class Scan:
    """An image whose name says what it is."""

    image: Path
    name: str
    sid: str
    kernel: str
    site: str
    pieces: str
    resampled: bool


def find_scans(folder: Path, said: list[str], *, all_scans: bool = False) -> list[Scan]:
    """The inspiratory scans of the first visit, sorted by name; one a subject unless all are wanted.

    The rule for several: kernels in the order of SMOOTH, then others by name; full before low dose; as the
    scanner made it before resampled; then by name.

    Args:
        folder: is looked through at any depth.
        said: gets one sentence for each reason for which images are left out.
        all_scans: keep every kernel and dose, but no copy on other voxels.

    Raises:
        CohortError: there is none.
    """
    found: list[Scan] = []
    left: dict[str, list[str]] = {}
    skipped: dict[str, list[Path]] = {}
    for image in find_images(folder.absolute(), skipped):
        name, match = _match(image, folder.absolute())
        if match is None:
            reason = "whose name is not of the form <sid>_INSP_<kernel>_<site>_COPD"
        elif match["rest"] and not RESAMPLED.fullmatch(match["rest"]):
            reason = "derived from scans, as the end of their name says"
        elif match["breath"].upper() != "INSP":
            reason = "in expiration"
        elif match["visit"] not in ("", "1"):
            reason = "of later visits, to which the labels do not belong"
        else:
            pieces = match["pieces"].upper()
            site = next((piece for piece in pieces.split("_") if re.fullmatch("[A-Z]{3}", piece)), "")
            sid, resampled = match["sid"].upper(), bool(match["rest"])
            found.append(Scan(image, name, sid, match["kernel"], site, pieces, resampled))
            continue
        left.setdefault(reason, []).append(name)
    kept: dict[tuple[str, ...], Scan] = {}
    for scan in sorted(found, key=_preference):
        which = (scan.sid, scan.kernel.upper(), scan.pieces) if all_scans else (scan.sid,)
        if kept.setdefault(which, scan) is not scan:
            left.setdefault("of a subject that has a better one (docs/cohorts.md)", []).append(scan.name)
    left |= {reason: [str(path) for path in paths] for reason, paths in skipped.items()}
    said += [f"left out, {reason}: {len(names)}, as {names[0]}" for reason, names in left.items()]
    if not kept:
        raise CohortError(
            "\n  ".join([f"{folder} holds no inspiratory scan of COPDGene", *said]),
            "names of files, or of folders with DICOM slices, are as 12918T_INSP_STD_NJC_COPD.nii.gz; other "
            "names go with `ctssl init` or `ctssl cohort table`",
        )
    return sorted(kept.values(), key=lambda scan: scan.name)


def _match(image: Path, folder: Path) -> tuple[str, re.Match[str] | None]:
    """The name that an image goes by and what it says; slices go by the folder that bears such a name."""
    suffix = max((s for s in SUFFIXES if image.name.lower().endswith(s)), key=len, default="")
    names = [image.name[: len(image.name) - len(suffix)]]
    if image.is_dir():
        names = [image.name, *reversed(image.relative_to(folder).parts[:-1])]
    matches = ((name, NAME.fullmatch(name)) for name in names)
    return next(((name, match) for name, match in matches if match), (names[0], None))


def _preference(scan: Scan) -> tuple[int, str, bool, bool, str, str]:
    kernel = scan.kernel.upper()
    rank = SMOOTH.index(kernel) if kernel in SMOOTH else len(SMOOTH)
    low_dose = "LD" in scan.pieces.split("_")
    return rank, kernel, low_dose, scan.resampled, scan.name, str(scan.image)
