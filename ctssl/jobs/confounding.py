"""The jobs about confounders: what features say of them, and what they alone say of targets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctssl import settings as stage_settings
from ctssl.config.evaluation import Target
from ctssl.confounders import is_measured
from ctssl.digests import label_digest
from ctssl.jobs.probes import labelled_cases as cases_of
from ctssl.jobs.rows import check_unchanged, read_features, some_rows
from ctssl.jobs.status import Status
from ctssl.manifest import Manifest, read_manifest


def confounder(text: str, features: Path, splits: Sequence[Path], scans: Path, out: Path) -> None:
    """Write the cross-validated prediction of one confounder from one table of features.

    Scans count one by one, whatever stands for a subject elsewhere: scanners and kernels belong to scans.

    Args:
        text: the rule's settings.
        features: of all scans.
        splits: the folds of each split.
        scans: the cohort's table.
        out: the result.
    """
    from ctssl.evaluate.handmade.steps import split_off
    from ctssl.evaluate.labels import read_labels
    from ctssl.evaluate.probes import probe, write_probe
    from ctssl.evaluate.splits import read_splits

    target, values = _asked("confounder", text, scans)
    known = read_labels(values, target)
    table, step = split_off(read_features(features), known.index)
    folds, *again = [read_splits(path) for path in splits]
    write_probe(out, probe(table, known, folds, target, step=step, again=again))


def alone(text: str, splits: Sequence[Path], scans: Path, out: Path) -> None:
    """Write the cross-validated prediction of one target from one confounder and nothing else.

    Args:
        text: the rule's settings.
        splits: the folds of each split.
        scans: the cohort's table.
        out: the result.
    """
    from ctssl.evaluate.confounding import as_features
    from ctssl.evaluate.probes import probe, write_probe
    from ctssl.evaluate.splits import read_splits

    settings = stage_settings.parse("alone", text)
    target, (confounded, values) = Target(**settings["target"]), _asked("alone", text, scans)
    table = as_features(values, {row["scan"]: row["subject"] for row in some_rows(scans)}, confounded)
    cases, _ = cases_of(settings, table)
    folds, *again = [read_splits(path) for path in splits]
    write_probe(out, probe(cases.features, cases.labels, folds, target, again=again, notes=cases.notes))


def _asked(stage: str, text: str, scans: Path) -> tuple[Target, dict[str, str]]:
    """The confounder as a target, and its value of each scan that is used."""
    from ctssl.evaluate.confounding import as_target
    from ctssl.evaluate.labels import one_spelling

    settings = stage_settings.parse(stage, text)
    manifest, chosen = read_manifest(Path(settings["manifest"]), images=False), settings["confounder"]
    if settings["values"] is not None:
        check_unchanged(settings["values"], label_digest(manifest.column(chosen["column"])), manifest)
    used = [row["scan"] for row in some_rows(scans)]
    values = one_spelling(values_of(chosen["column"], manifest, used, scans.parent))
    return as_target(chosen["name"], chosen["column"], values, chosen["task"]), values


def values_of(column: str, manifest: Manifest, scans: Sequence[str], results: Path) -> dict[str, str]:
    """Scan -> value as text, "" where it is not known.

    Args:
        column: of the manifest, or one of ctssl.confounders.MEASURED.
        manifest: of the user.
        scans: which scans.
        results: folder of the study, with volumes/{scan}.
    """
    if not is_measured(manifest, column):
        labels = manifest.column(column)
        return {scan: labels.get(scan, "") for scan in scans}
    return {
        scan: _measured(column, Status.outcome(results / "volumes" / scan, scan, "volume")) for scan in scans
    }


def _measured(column: str, status: Status) -> str:
    from ctssl.prepare.quality import derived

    about: Any = status.numbers.get("about")
    known: Mapping[str, Any] = about if isinstance(about, dict) else {}
    value = derived(status.numbers)["slice_mm"] if column == "slice_mm" else known.get(column)
    if isinstance(value, int | float):
        return f"{value:.2f}"  # spacings of one protocol differ in their last digits
    return value if isinstance(value, str) else ""
