"""Is one row better than another? Differences on the same subjects, with a test and an interval.

All rows are compared with one reference. A subject counts once, with the mean of all that was said of it: of
its scans, seeds of a run, and repeats. Only scans count that both rows predicted, with the same truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctssl.config.evaluation import Target
from ctssl.escaping import in_csv, in_markdown
from ctssl.evaluate.labels import sort_classes
from ctssl.evaluate.metrics import drawn_counts, drawn_subjects, subject_rows
from ctssl.evaluate.tables import SHOWN

RESAMPLES = 9999
"""Of signs; where there are fewer ways to flip them, all are tried."""

COLUMNS = (
    *("target", "task", "row", "reference", "scans", "subjects", "metric", "value", "reference_value"),
    *("difference", "low", "high", "loss_difference", "p", "p_holm", "note"),
)
_ROOM = 2_000_000  # signs at once


@dataclass(frozen=True)
class Pair:
    """What one row does beside the reference, in one target.

    Attributes:
        scans, subjects: that both predicted, with the same truth.
        value, reference_value: the shown metric of both on those scans; mean over seeds and repeats.
        difference: value less reference_value.
        low, high: its 95 % interval, bootstrap over subjects, models as they are; None: undefined.
        loss_difference: mean over subjects of squared error or share wrong, less that of the reference; None
            for times, of which no subject has a loss of its own.
        p: two-sided, of equal losses (signs flipped by subject); of times, of equal concordances (bootstrap).
        note: what was done otherwise than usual, or could not be done.
    """

    scans: int
    subjects: int
    value: float | None = None
    reference_value: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    loss_difference: float | None = None
    p: float | None = None
    note: str = ""


def compare(row: Sequence[pd.DataFrame], reference: Sequence[pd.DataFrame], target: Target) -> Pair:
    """What the predictions of a row are worth beside those of the reference.

    Args:
        row: of each seed the predictions of a ProbeResult; `scan` is what is the same in both rows.
        reference: likewise, of whatever number of seeds.
        target: names the task.
    """
    both, notes, fault = _common((*row, *reference), target)
    subject = dict(zip(row[0].scan, row[0].subject, strict=True))
    people = sorted({subject[scan] for scan in both})
    if len(people) < 2 and not fault:
        fault = "fewer than 2 subjects that both predicted"
    if fault:
        return Pair(len(both), len(people), note="; ".join([*notes, f"{fault}, so nothing is compared"]))
    ours, theirs = ([t[t.scan.isin(both)] for t in tables] for tables in (row, reference))
    counts = drawn_counts(drawn_subjects(len(people), 0))
    every = np.vstack([np.ones(len(people)), counts])  # all subjects as they are, then the draws
    own, other = (_values(tables, every, target) for tables in (ours, theirs))
    away = own - other
    drawn = away[1:][np.isfinite(away[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    loss = None
    if target.task == "survive":
        p = _two_sided(drawn)
    else:
        losses = _losses(ours, target) - _losses(theirs, target)
        loss, p = float(losses.mean()), sign_flip(losses)
    numbers = {name: _finite(v) for name, v in zip(("low", "high", "p"), (low, high, p), strict=True)}
    values = {"value": _finite(own[0]), "reference_value": _finite(other[0]), "difference": _finite(away[0])}
    return Pair(len(both), len(people), loss_difference=loss, note="; ".join(notes), **values, **numbers)


def sign_flip(differences: np.ndarray) -> float:
    """p, two-sided, that differences of subjects (n,) have mean 0: signs are flipped at random.

    Source: Fisher's test of paired samples, as of scipy.stats.permutation_test.
    """
    from scipy.stats import permutation_test

    # Rounding must not tell apart what is equally far from 0.
    values = np.round(differences / max(np.abs(differences).max(), 1e-300), 12)
    found = permutation_test(
        (values,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _ROOM // len(values)),
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Each p corrected for how many there are (Holm); None stays None and does not count."""
    from statsmodels.stats.multitest import multipletests

    there = [p for p in ps if p is not None]
    if not there:
        return list(ps)
    corrected = iter(multipletests(there, method="holm")[1])
    return [None if p is None else float(next(corrected)) for p in ps]


def pairs_table(
    rows: Mapping[str, Mapping[str, Sequence[pd.DataFrame]]], reference: str, targets: Sequence[Target]
) -> pd.DataFrame:
    """One line for each target and row but the reference, with the columns of COLUMNS.

    Args:
        rows: label -> target name -> predictions of each seed; none where nothing was measured.
        reference: label of the row that others are compared with.
        targets: in their order.
    """
    lines: list[dict[str, Any]] = []
    for target in targets:
        asked = [name for name in rows if name != reference and target.name in rows[name]]
        known = rows[reference].get(target.name, [])
        found = [_compared(rows[name][target.name], known, target) for name in asked]
        corrected = holm([pair.p for pair in found])
        about = {"target": target.name, "task": target.task, "reference": reference}
        about["metric"] = SHOWN[target.task][0]
        for name, pair, p_holm in zip(asked, found, corrected, strict=True):
            lines.append({**about, "row": name, **vars(pair), "p_holm": p_holm})
    return pd.DataFrame(lines, columns=list(COLUMNS))


def page(table: pd.DataFrame, reference: str) -> str:
    """The Markdown page of a table of pairs."""
    heads = ["target", "method", "difference [95 %]", "p", "p (Holm)", "subjects"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    found = [{str(key): value for key, value in line.items()} for line in table.to_dict("records")]
    for line in found:
        cells = [f"{line['target']}: {line['metric']}", in_markdown(line["row"]), _difference(line)]
        cells += [_p(line["p"]), _p(line["p_holm"]), f"{line['subjects']:d}"]
        lines.append("| " + " | ".join(cells) + " |")
    notes = [
        f"- {in_markdown(line['row'])}, {line['target']}: {in_markdown(line['note'])}."
        for line in found
        if line["note"]
    ]
    about = (
        f"Differences from {in_markdown(reference)} on the subjects that both predicted; above 0 the row is "
        "better. Intervals: bootstrap over subjects, fitted models as they are. p: losses of a subject "
        "(squared error, or share wrong) swapped between both rows at random; of times, by the bootstrap of "
        "concordances. Holm corrects for all comparisons of a target. The models of the folds share training "
        "subjects, and nothing was trained anew, so p is optimistic: it says how sure the difference is on "
        "these subjects with these models, not on another cohort."
    )
    told = ["", "Notes:", "", *notes] if notes else []
    return "\n".join(["# Comparisons", "", *lines, "", about, *told]) + "\n"


def write_pairs(table: pd.DataFrame, reference: str, csv: Path, markdown: Path) -> None:
    """Nothing; writes the table and the page."""
    for path in (csv, markdown):
        path.parent.mkdir(parents=True, exist_ok=True)
    table.map(in_csv).to_csv(csv, index=False)
    markdown.write_text(page(table, reference))


def _compared(own: Sequence[pd.DataFrame], known: Sequence[pd.DataFrame], target: Target) -> Pair:
    if not known or not own:
        return Pair(0, 0, note=f"the {'row' if known else 'reference'} has no predictions of this target")
    return compare(own, known, target)


def _common(tables: Sequence[pd.DataFrame], target: Target) -> tuple[list[str], list[str], str]:
    """Scans that all predicted, of the same truth; what is left out; why nothing can be compared, or ""."""
    scans = [set(table.scan) for table in tables]
    both = set.intersection(*scans)
    lost = len(set.union(*scans) - both)
    notes = [f"{lost} scan(s) that only one of both predicted are left out"] if lost else []
    known = [table.loc[table.scan.isin(both), ["scan", "truth"]] for table in tables]
    if target.task == "classify":  # rare ones are merged by the scans that a row has
        found = {", ".join(sort_classes(table.truth)) for table in known}
        if len(found) > 1:
            said = " and ".join(sorted(found, key=lambda names: (len(names), names)))
            return sorted(both), notes, f"the rows are of other classes, of the same scans classes {said}"
    truths = pd.concat(known).groupby("scan").truth.nunique()
    other = set(truths.index[truths > 1])
    notes += [f"{len(other)} scan(s) whose truth is not the same in both are left out"] if other else []
    return sorted(both - other), notes, ""


def _splits(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The predictions of each seed and repeat."""
    return [part for table in tables for _, part in table.groupby("repeat")]


def _losses(tables: Sequence[pd.DataFrame], target: Target) -> np.ndarray:
    """(subjects,) mean loss of each, sorted by subject."""
    parts = [part.assign(loss=_loss(part, target)) for part in _splits(tables)]
    scans = pd.concat(parts).groupby(["subject", "scan"]).loss.mean()
    return scans.groupby("subject").mean().to_numpy()


def _loss(part: pd.DataFrame, target: Target) -> np.ndarray:
    """(n,) squared error, or 1 where the class is wrong."""
    if target.task == "classify":
        return (part.truth != part.prediction).to_numpy(float)
    return ((part.truth - part.prediction) ** 2).to_numpy(float)


def _values(tables: Sequence[pd.DataFrame], counts: np.ndarray, target: Target) -> np.ndarray:
    """(draws,) the shown metric, mean over seeds and repeats; `counts` (draws, subjects): how often."""
    return np.mean([_of_split(part, counts, target) for part in _splits(tables)], axis=0)


def _of_split(part: pd.DataFrame, counts: np.ndarray, target: Target) -> np.ndarray:
    people, rows = subject_rows(part.subject.reset_index(drop=True))
    if target.task == "survive":
        from ctssl.evaluate.survival import drawn_concordances

        own = counts[:, np.searchsorted(people, part.subject.to_numpy())]
        return drawn_concordances(part.truth.to_numpy(float), part.prediction.to_numpy(float), own)
    loss = _loss(part, target)
    above = counts @ np.array([loss[own].sum() for own in rows])
    whole = np.ones(len(part)) if target.task == "classify" else ((part.truth - part.null) ** 2).to_numpy()
    below = counts @ np.array([whole[own].sum() for own in rows])
    return 1 - np.divide(above, below, out=np.full(len(counts), np.nan), where=below > 0)


def _two_sided(drawn: np.ndarray) -> float:
    """p of a difference of 0, by which share of the bootstrap lies beyond it."""
    if not len(drawn):
        return np.nan
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return min(1.0, 2 * float(beyond + 1) / (len(drawn) + 1))


def _difference(line: Mapping[str, Any]) -> str:
    if line["difference"] is None or pd.isna(line["difference"]):
        return "–"
    known = line["low"] is not None and not pd.isna(line["low"])
    return f"{line['difference']:+.3f}" + (f" [{line['low']:+.3f}, {line['high']:+.3f}]" if known else "")


def _p(value: float | None) -> str:
    if value is None or pd.isna(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
