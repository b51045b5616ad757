"""What a person wants to know after a run: which scans are excluded and why; and trying them again."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ctssl.config.base import NAME
from ctssl.errors import CohortError
from ctssl.jobs import outputs
from ctssl.jobs.rows import read_rows
from ctssl.jobs.status import BOXES, FILE, STAGES, Status

BY_QUALITY = "quality"
"""In place of a stage: the scan has a store, but its numbers pass a limit of the config."""

_OVERRULE = (
    "keep: yes with a keep_reason in the manifest overrules it, so do other limits in section quality; "
    "then the same snakemake command"
)


def exclusions(results: Path) -> tuple[list[Status], int]:
    """Statuses of the excluded scans, and how many scans there are altogether."""
    told = _failures(results)
    if made_elsewhere(results):
        return told, len(read_rows(results / "quality" / "quality.csv"))
    folders = [path.parent for path in sorted((results / "stores").glob(f"*/{FILE}"))]
    table = results / "quality" / "quality.csv"
    if table.exists():  # scans whose row was removed from the manifest are no longer in it
        members = {row["scan"] for row in read_rows(table)}
        folders = [folder for folder in folders if folder.name in members]
    # Only the cohort job knows what quality excludes, and whether boxes count; of all else the stages know
    # the latest.
    judged = {status.scan: status for status in told if status.stage in (BY_QUALITY, *BOXES.values())}
    statuses = [Status.outcome(folder, folder.name, STAGES["stores"]) for folder in folders]
    statuses = [judged.get(status.scan, status) if status.ok else status for status in statuses]
    return [status for status in statuses if not status.ok], len(statuses)


def made_elsewhere(results: Path) -> bool:
    """Whether the study takes its stores from a prepared folder: then the tables alone say what was lost."""
    return (results / "failures.csv").exists() and not any((results / stage).exists() for stage in STAGES)


def say_exclusions(results: Path) -> None:
    """Print one line when scans are excluded: the last words of a workflow run."""
    lost, scans = exclusions(results)
    if lost:
        print(f"{len(lost)} of {scans} scans excluded, see {results}/failures.csv", file=sys.stderr)


def describe(results: Path) -> tuple[str, bool]:
    """A text for a person, and whether any scan is excluded.

    Raises:
        CohortError: nothing was prepared here.
    """
    lost, scans = exclusions(results)
    if not scans:
        raise CohortError(f"{results} holds no prepared scans", "run the workflow first, or name --results")
    lines = [f"{scans - len(lost)} of {scans} scans are ready in {results}"]
    for status in lost:
        lines.append(f"{status.scan}: excluded at {status.stage}: {status.reason}")
        lines += [f"  What to do: {status.advice}"] if status.advice else []
    if lost and (made_elsewhere(results) or all(status.stage == BY_QUALITY for status in lost)):
        lines.append("After mending: the same snakemake command.")
    elif lost:
        again = shlex.join(["ctssl", "retry", "--results", str(results)])
        lines.append(f"After mending: {again}, then the same snakemake command.")
    return "\n".join(lines), bool(lost)


def retry(results: Path, scans: Sequence[str]) -> list[str]:
    """Ids of the scans whose exclusion was cleared; when `scans` is empty all that a stage excluded.

    Raises:
        CohortError: a named scan is not excluded, or only by its quality, which would be the same again;
            or the stores were made elsewhere.
    """
    if made_elsewhere(results):
        raise CohortError(
            f"the stores of {results} were made elsewhere: there is nothing to clear here",
            "put whole stores into place and run the same snakemake command: it notices them",
        )
    lost = {status.scan: status for status in exclusions(results)[0]}
    strange = sorted(set(scans) - lost.keys())
    if strange:
        raise CohortError(
            f"not excluded: {', '.join(strange)}",
            "`ctssl status` lists the excluded scans of a results folder",
        )
    judged = sorted(scan for scan in scans or lost if lost[scan].stage == BY_QUALITY)
    chosen = sorted(set(scans or lost) - set(judged))
    if judged and (scans or not chosen):
        raise CohortError(
            f"excluded by quality, which a second try would not change: {', '.join(judged)}", _OVERRULE
        )
    for scan in chosen:
        for stage in (*STAGES, *BOXES):
            outputs.remove(results / stage / scan)
    return chosen


def refresh(results: Path, run: str) -> None:
    """Nothing; removes the frozen scans and the weights of a run.

    Raises:
        CohortError: there is no such run.
    """
    folder = results / "runs" / run
    if not NAME.fullmatch(run) or not folder.is_dir():
        raise CohortError(f"{folder} does not exist", "name a run of the config, and --results")
    outputs.remove(folder)


def products(results: Path) -> str:
    """Where table, figure, stores and pictures are, and the table itself.

    Raises:
        CohortError: there is nothing of them.
    """
    table = results / "tables" / "probes.md"
    places = {
        "table": table,
        "differences": results / "tables" / "pairs.md",
        "figure": results / "figures" / "umap.png",
        "features": results / "features",
        "predictions": results / "predictions",
        "pictures": results / "quality" / "index.html",
        "stores": _stores(results),
        "excluded": results / "failures.csv",
    }
    lines = [f"{name:11} {path}" for name, path in places.items() if path.exists()]
    if not lines:
        raise CohortError(f"{results} holds no results", "run the workflow first, or name --results")
    return "\n".join([*lines, "", table.read_text()] if table.exists() else lines)


def _stores(results: Path) -> Path:
    """The folder of the stores: here, or where the table of scans says."""
    if made_elsewhere(results):
        for row in read_rows(results / "scans.csv"):
            return (results / row["path"]).resolve().parent
    return results / "stores"


def _failures(results: Path) -> list[Status]:
    """What the cohort job told of excluded scans; nothing before it ran."""
    table = results / "failures.csv"
    rows = read_rows(table) if table.exists() else []
    return [Status(row["scan"], False, row["stage"], row["reason"], row["advice"]) for row in rows]
