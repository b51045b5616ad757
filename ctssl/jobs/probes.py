"""The jobs of folds and of probes."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctssl import outcomes
from ctssl import settings as stage_settings
from ctssl.config.evaluation import Target
from ctssl.digests import VISIT, digest, label_digest, visit_lines
from ctssl.errors import CohortError
from ctssl.jobs.predict import write_final
from ctssl.jobs.rows import check_unchanged, read_features, read_rows, some_rows
from ctssl.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    import pandas as pd

    from ctssl.evaluate.cases import Cases

INSIDE = "the network of each fold was pretrained on the fold's training subjects alone"
"""What every result of a run with `pretrained_on: folds` says."""


def splits(text: str, scans: Path, out: Path) -> None:
    """Write or extend the folds: subjects that have one keep it."""
    from ctssl.evaluate.splits import write_splits

    settings = stage_settings.parse("splits", text)
    manifest = read_manifest(Path(settings["manifest"]), images=False)
    strata = None
    if settings["stratify"]:
        labels = manifest.column(settings["stratify"])
        strata = {row["subject"]: labels[row["scan"]] for row in reversed(read_rows(scans))}
    subjects = list(dict.fromkeys(row["subject"] for row in some_rows(scans)))
    write_splits(out, subjects, strata, settings["folds"], settings["split_seed"])


def splits_by(text: str, scans: Path, out: Path) -> None:
    """Write the folds that leave out one value of a column each."""
    from ctssl.evaluate.left_out import leave_out, write_left_out

    settings = stage_settings.parse("splits_by", text)
    manifest = read_manifest(Path(settings["manifest"]), images=False)
    values = manifest.column(settings["column"])
    check_unchanged(settings["values"], label_digest(values), manifest)
    write_left_out(out, leave_out(values, {row["scan"]: row["subject"] for row in some_rows(scans)}))


def probe(text: str, features: Path, splits: Sequence[Path], out: Path, final: Path) -> None:
    """Write the cross-validated prediction of one target, and the probe of all its labels (`final`).

    Args:
        text: the rule's settings.
        features: of all scans.
        splits: the folds of each split.
        out: the result.
        final: the probe of all labels.
    """
    from ctssl.evaluate.probes import probe as cross_validate
    from ctssl.evaluate.probes import write_probe
    from ctssl.evaluate.splits import read_splits

    settings = stage_settings.parse("probe", text)
    target = Target(**settings["target"])
    cases, others = labelled_cases(settings, read_features(features))
    folds, *again = [read_splits(path) for path in splits]
    result = cross_validate(
        cases.features, cases.labels, folds, target, step=cases.step, again=again, notes=cases.notes
    )
    write_probe(out, result)
    write_final(final, cases, others, folds, target)


def probe_by(text: str, features: Path, splits: Path, out: Path) -> None:
    """Write the prediction of one target over folds that leave out one value of a column each.

    Args:
        text: the rule's settings.
        features: of all scans.
        splits: file of the folds that `splits_by` writes.
        out: the result.
    """
    from ctssl.evaluate.left_out import read_left_out
    from ctssl.evaluate.probes import probe as cross_validate
    from ctssl.evaluate.probes import write_probe

    settings = stage_settings.parse("probe_by", text)
    target, found = Target(**settings["target"]), read_left_out(splits)
    cases, _ = labelled_cases(settings, read_features(features))
    table = cases.features
    labelled = set(table.subject[table.scan.isin(cases.labels.index)])
    notes = [*found.notes(settings["by"], labelled), *cases.notes]
    there = table.subject.isin(list(found.folds))
    known = cases.labels[~cases.labels.index.isin(table.scan[~there])]
    result = cross_validate(
        table[there].reset_index(drop=True),
        known,
        found.folds,
        target,
        step=cases.step,
        names=found.names,
        notes=notes,
    )
    write_probe(out, result)


def probe_inside(
    text: str, features: Sequence[Path], members: Sequence[Path], splits: Path, out: Path
) -> None:
    """Write the cross-validated prediction of one target from features of a network for each fold.

    Args:
        text: the rule's settings.
        features: of all scans by the network of fold 0, of fold 1, ...
        members: the scans and subjects that each network was trained on.
        splits: the folds.
        out: the result.

    Raises:
        CohortError: a network has seen a subject that it is tested on.
    """
    from ctssl.evaluate.probes import probe_inside as cross_validate
    from ctssl.evaluate.probes import write_probe
    from ctssl.evaluate.splits import read_splits

    settings = stage_settings.parse("probe_inside", text)
    target, folds = Target(**settings["target"]), read_splits(splits)
    read = [read_features(path) for path in features]
    check_unseen(members, folds, _subjects_now(settings, read))
    notes = [INSIDE, *only_first(settings)]
    tables: dict[int, tuple[pd.DataFrame, pd.Series]] = {}
    for fold, table in enumerate(read):
        cases, _ = labelled_cases(settings, table)
        tables[fold] = cases.features, cases.labels
    write_probe(out, cross_validate(tables, folds, target, [*notes, *cases.notes]))


def check_unseen(members: Sequence[Path], folds: Mapping[str, int], now: Mapping[str, str]) -> None:
    """Nothing, when no network was trained on a subject of its own fold.

    Args:
        members: file of the scans and subjects that the network of fold 0, of fold 1, ... was trained on.
        folds: subject -> fold.
        now: scan -> the subject that it is of now; that of a training may have been corrected since.

    Raises:
        CohortError: one was.
    """
    for fold, path in enumerate(members):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        seen = {row["subject"] for row in rows} | {now[row["scan"]] for row in rows if row["scan"] in now}
        leaked = sorted(s for s in seen if folds.get(s, fold) == fold)
        if leaked:
            raise CohortError(
                f"the network of fold {fold} was trained on subjects that are in this fold now, or in none: "
                f"{', '.join(leaked[:10])}",
                "the file of splits or the subject of a scan was changed: `ctssl refresh RUN` begins the run "
                "anew",
            )


def _subjects_now(settings: Mapping[str, Any], tables: "Sequence[pd.DataFrame]") -> dict[str, str]:
    """Scan -> the subject that it is of, also of scans that are left out by now."""
    manifest = read_manifest(Path(settings["manifest"]), images=False)
    named = {row.scan: row.subject for row in manifest.rows}
    for table in tables:
        named |= dict(zip(table.scan, table.subject, strict=True))
    return named


def only_first(settings: Mapping[str, Any]) -> list[str]:
    """The note that a network inside the folds stands for the first split alone, where there are more."""
    repeats = settings.get("repeats", 1)
    return [f"networks were trained for the first of {repeats} splits only"] if repeats > 1 else []


def chosen_cases(
    settings: Mapping[str, Any], manifest: Manifest, cases: "Cases", target: Target, later: bool = False
) -> "Cases":
    """The cases that count, as `ctssl.settings.cases_of` says in the settings of a job.

    Args:
        settings: of the job.
        manifest: of the study.
        cases: all scans and labels.
        target: what is predicted.
        later: whether means over scans are taken later, of what is predicted: then all scans are cases.

    Raises:
        ManifestError: visits changed since the workflow was started.
    """
    from ctssl.evaluate.cases import choose, scans_of_means

    how, rare = settings.get("scans_of_subject", "all"), settings.get("rare", "keep")
    if how != "all":
        check_unchanged(settings["visits"], digest(visit_lines(manifest, target.column)), manifest)
    order, below = order_of(manifest), settings.get("rare_below", 0)
    if later and how == "mean":
        return scans_of_means(cases, target, order, rare, below)
    return choose(cases, target, how, order, rare, below)


def order_of(manifest: Manifest) -> dict[str, int]:
    """Scan -> its place in time: by the column visit where there is one, else as the manifest has them."""
    from ctssl.evaluate.cases import visit_order

    known = VISIT in manifest.label_columns
    return visit_order(manifest.scans, manifest.column(VISIT) if known else None)


def labelled_cases(settings: dict[str, Any], features: "pd.DataFrame") -> "tuple[Cases, pd.DataFrame]":
    """The cases of a target that count, and features of the scans without a label."""
    from ctssl.evaluate.cases import Cases
    from ctssl.evaluate.handmade.steps import split_off
    from ctssl.evaluate.labels import read_labels

    target, manifest = Target(**settings["target"]), read_manifest(Path(settings["manifest"]), images=False)
    texts = outcomes.texts(manifest, target)
    check_unchanged(settings["labels"], label_digest(texts), manifest)
    known = read_labels(texts, target)
    table, step = split_off(features, known.index)
    others = table[~table.scan.isin(known.index)]
    notes = tuple(features.attrs.get("fitted", {}).get("notes", ()))  # of clinical columns
    return chosen_cases(settings, manifest, Cases(table, known, step, notes), target), others
