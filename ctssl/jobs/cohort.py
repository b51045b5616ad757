"""The jobs that look at all scans together: which are used, how good they are, whether enough are left."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctssl import settings as stage_settings
from ctssl.config.prepare import Quality
from ctssl.errors import CohortError
from ctssl.jobs import prepared
from ctssl.jobs.rows import check_unchanged, read_rows, write_rows
from ctssl.jobs.status import BOXES, STAGES, Status
from ctssl.jobs.summary import BY_QUALITY
from ctssl.log import Progress, say
from ctssl.manifest import Row, read_manifest

FAILURES = ("scan", "subject", "stage", "reason", "advice")
QUALITY = (
    *("scan", "subject", "verdict", "reasons", "excluded_at"),
    *("dice_right", "dice_left", "min_jacobian", "inverse_mm_mean", "inverse_mm_p95"),
    *("landmarks", "valid", "valid_fraction", "edges", "cut", "missing", "rung", "rungs"),
    *("right_l", "left_l", "lung_l", "left_right_ratio", "laa_950_percent"),
    *("native_spacing_mm", "slice_mm", "mask_doubts", "repairs"),
)
SCANS = ("scan", "subject", "store", "path")


@dataclass(frozen=True)
class CohortTables:
    """What the cohort job writes; `scans` stands at the root of the results, `sheet` beside the pictures."""

    failures: Path
    quality: Path
    scans: Path
    sheet: Path


def cohort(text: str, out: CohortTables) -> None:
    """Write the tables of excluded scans, of quality, of the scans that are used, and the contact sheet.

    Raises:
        ManifestError: the manifest changed since the workflow started.
    """
    from ctssl.prepare.sheet import write_sheet

    settings = stage_settings.parse("cohort", text)
    limits = Quality(**settings["quality"])
    manifest = read_manifest(Path(settings["manifest"]), images=False)
    check_unchanged(settings["scans"], stage_settings.digest(stage_settings.members(manifest)), manifest)
    check_unchanged(settings["kept"], stage_settings.digest(stage_settings.kept(manifest)), manifest)
    if settings.get("prepared"):
        stores = prepared.stores_from(Path(settings["prepared"]), out.scans.parent)
        outcomes = prepared.outcomes(Path(settings["prepared"]), manifest.rows)
    else:
        stores = Path("stores")
        # boxes first: the digest among the numbers stays that of the store
        stages = BOXES | STAGES if settings.get("boxes") else STAGES
        outcomes = _outcomes(out.scans.parent, manifest.scans, stages)
    table = [
        _judge(row, status, limits, row.keep_reason if row.keep else None, _picture(out.sheet, row.scan))
        for row, status in zip(manifest.rows, outcomes, strict=True)
    ]
    files: tuple[str, ...] = ()
    if settings.get("file_names"):
        files = ("image",)
        for one, row in zip(table, manifest.rows, strict=True):
            one["image"] = _as_written(row.image, manifest.path.parent)
    lost = [row | {"stage": row["excluded_at"]} for row in table if row["excluded_at"]]
    used = [
        row | {"store": row["digest"], "path": stores / row["scan"]}
        for row in table
        if not row["excluded_at"]
    ]
    write_rows(out.failures, FAILURES + files, lost)
    write_rows(out.quality, QUALITY + files, [{key: _as_text(row[key]) for key in row} for row in table])
    write_rows(out.scans, SCANS, used)
    write_sheet(out.sheet, table, settings["quality"])
    for one in lost:
        say(f"excluded: {one['scan']} at {one['stage']}: {one['reason']}. {one['advice']}")


def enough(text: str, failures: Path, quality: Path, out: Path) -> None:
    """Write how many scans are excluded; a job of its own, so that its failure leaves the tables alone.

    Raises:
        CohortError: more scans are excluded than `max_excluded_fraction` allows.
    """
    limit = stage_settings.parse("enough", text)["max_excluded_fraction"]
    lost, scans = len(read_rows(failures)), len(read_rows(quality))
    if lost > limit * scans:
        raise CohortError(
            f"{lost} of {scans} scans are excluded, more than limits.max_excluded_fraction ({limit:g})",
            f"{failures} lists them with advice",
        )
    out.write_text(f"{lost} of {scans} scans excluded\n")


def _judge(
    row: Row, status: Status, limits: Quality, kept: str | None, picture: str | None
) -> dict[str, Any]:
    """One row of the cohort: numbers, verdict, reasons (a list); of an excluded scan where, and advice.

    Args:
        row: of the manifest.
        status: of the scan's stages, with the numbers of all.
        limits: of quality.
        kept: why the manifest overrules an exclusion by quality; None: it does not.
        picture: file name of the scan's picture, or None.
    """
    from ctssl.prepare.quality import derived, verdict

    numbers = status.numbers | derived(status.numbers)
    found = numbers | {"scan": row.scan, "subject": row.subject, "picture": picture}
    if not status.ok:
        lost = {"excluded_at": status.stage, "reason": status.reason, "advice": status.advice}
        return found | {"verdict": "exclude", "reasons": [status.reason]} | lost
    judged, reasons = verdict(numbers, limits)
    if judged == "exclude" and kept is not None:
        judged, reasons = "warn", [f"kept by the manifest: {kept}", *reasons]
    found |= {"verdict": judged, "reasons": reasons, "excluded_at": ""}
    if judged == "exclude":
        look = f"look at quality/{picture}; " if picture else ""
        found |= {
            "excluded_at": BY_QUALITY,
            "reason": "; ".join(reasons),
            "advice": f"{look}a lung mask of your own (column mask) may mend it; where it is right as it is, "
            "keep: yes with a keep_reason in the manifest overrules the limits of section quality",
        }
    return found


def _picture(sheet: Path, scan: str) -> str | None:
    name = f"{scan}.png"
    return name if (sheet.parent / name).exists() else None


def _as_written(image: Path | None, folder: Path) -> str:
    """A path as the manifest in this folder has it, or nothing."""
    if image is None:
        return ""
    return str(image.relative_to(folder) if image.is_relative_to(folder) else image)


def _as_text(value: Any) -> Any:
    """A value for a csv file: lists joined, four decimals."""
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return round(value, 4) if isinstance(value, float) else value


def _outcomes(results: Path, scans: list[str], stages: dict[str, str]) -> list[Status]:
    """The last status of each scan, in order, with the numbers of all stages that it passed.

    `stages` is folder -> stage.
    """
    found = []
    with Progress("cohort", len(scans), "scans") as progress:
        for scan in scans:
            each = [Status.outcome(results / folder / scan, scan, stage) for folder, stage in stages.items()]
            numbers = {key: value for status in each for key, value in status.numbers.items()}
            lost = [status for status in each if not status.ok]
            found.append(replace((lost or each)[-1], numbers=numbers))
            progress.advance()
    return found
