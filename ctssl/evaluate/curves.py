"""How much a probe needs: the same probe, fitted on ever more of each fold's training subjects.

In each fold the training subjects are put into one order a draw, and a share of them is the first of that
order: so a larger share holds the smaller ones. The test part of a fold is always whole.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctssl.cards import read_card
from ctssl.config.evaluation import Target
from ctssl.errors import CohortError
from ctssl.evaluate.labels import in_folds, join_labels, sort_classes
from ctssl.evaluate.linear import fit_probe
from ctssl.evaluate.metrics import pooled_metrics
from ctssl.evaluate.probes import predict_rows, why_not
from ctssl.files import write_whole

QUARTERS = 4
"""Strata of a number, of which each gives the same share of its subjects."""

COLUMNS = ("row", "target", "task", "seed", "share", "subjects", "metric", "value", "sd", "draws", "note")


@dataclass(frozen=True)
class Curve:
    """What one row's features say of one target, by share of the training subjects.

    Attributes:
        target, task: of the target.
        points: per share its `share`, `subjects` (mean over folds and draws of how many were fitted on),
            `draws`, and `metrics`: name -> value (of all out-of-fold predictions together, mean over draws)
            and sd (over draws, n - 1 below); None where nothing could be computed, or there is one draw;
            `note`: what was done otherwise than usual, and in how many fits.
        note: what is to be said of all shares, or why nothing could be done.
    """

    target: str
    task: str
    points: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""


def curve(
    features: pd.DataFrame,
    labels: pd.Series,
    folds: Mapping[str, int],
    target: Target,
    shares: Sequence[float],
    draws: int,
    step: Any = None,
    notes: Sequence[str] = (),
) -> Curve:
    """The curve over shares of labels.

    Args:
        features: columns scan, subject, f000 ..., one row per scan.
        labels: scan -> label, as `read_labels` gives it.
        folds: subject -> fold, of the first split.
        target: to regress or to classify.
        shares: above 0, to 1, rising.
        draws: how often each share below 1 is drawn; there is one way to take all.
        step: as of `probe`.
        notes: what is to be said already.

    Raises:
        CohortError: as `join_labels`.
    """
    rows, lost = join_labels(features, labels, folds)
    told = [*notes, *([f"{lost} labelled scan(s) have no features"] if lost else [])]
    if fault := why_not(rows, target):
        return Curve(target.name, target.task, [], "; ".join([*told, f"{fault}, so nothing is measured"]))
    rows = in_folds(rows, folds)
    classes = sort_classes(rows.truth) if target.task == "classify" else []
    points = []
    for share in shares:
        found, sizes = [], []
        heard: Counter[str] = Counter()
        for draw in range(draws if share < 1 else 1):
            parts = []
            for fold in sorted(set(rows.fold)):
                test, train = rows[rows.fold == fold], rows[rows.fold != fold]
                part = train[train.subject.isin(some_subjects(train, target.task, share, draw))]
                model, _, said = fit_probe(part, target.task, step)
                heard.update(said)
                parts.append(predict_rows(model, part, test, target.task, classes))
                sizes.append(part.subject.nunique())
            found.append(_scores(pd.concat(parts, ignore_index=True), rows, classes, target))
        note = "; ".join(f"{words} ({n} of {len(sizes)} fits)" for words, n in heard.items())
        point = {"share": share, "subjects": float(np.mean(sizes)), "draws": len(found), "note": note}
        points.append({**point, "metrics": {name: _over([f[name] for f in found]) for name in found[0]}})
    return Curve(target.name, target.task, points, "; ".join(told))


def some_subjects(train: pd.DataFrame, task: str, share: float, draw: int) -> set[str]:
    """A share of the training subjects: of each class, or each quarter of the numbers, the same.

    At least one subject of each class, and at least two where numbers are predicted. A larger share of the
    same draw holds a smaller one. A subject of several classes counts for the rarest of them, of
    several numbers for their mean.

    Args:
        train: columns subject, truth.
        task: regress or classify.
        share: above 0, to 1.
        draw: another one, another order.
    """
    if task == "classify":
        counts = train.groupby("truth").subject.nunique()
        rarest = sorted(
            zip(train.subject, train.truth, strict=True), key=lambda one: (-counts[one[1]], one[1])
        )
        stratum = {subject: str(name) for subject, name in rarest}
        least = 1
    else:
        mean = train.groupby("subject").truth.mean()
        quarter = (mean.rank(method="first") - 1) * QUARTERS // len(mean)
        stratum = {str(subject): str(int(q)) for subject, q in quarter.items()}
        least = 0
    ordered: dict[str, list[str]] = {}
    for subject in sorted(stratum, key=lambda s: _order(draw, s)):
        ordered.setdefault(stratum[subject], []).append(subject)
    # Each subject's place in its stratum, from 0 to 1: who has the lowest places comes first.
    place = {s: (i + 0.5) / len(own) for own in ordered.values() for i, s in enumerate(own)}
    everyone = sorted(place, key=lambda s: (place[s], _order(draw, s)))
    wanted = min(len(everyone), max(2, ceil(round(share * len(everyone), 6))))
    first = {own[0] for own in ordered.values()} if least else set()
    rest = [subject for subject in everyone if subject not in first]
    return first | set(rest[: max(0, wanted - len(first))])


def write_curve(path: Path, found: Curve) -> None:
    """Nothing; writes the curve as JSON."""
    write_whole(path, (json.dumps(asdict(found), indent=1, allow_nan=False) + "\n").encode())


def read_curve(path: Path) -> Curve:
    """What `write_curve` wrote.

    Raises:
        CohortError: the file holds no such thing.
    """
    try:
        return Curve(**read_card(path))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError) as error:
        raise CohortError(f"{path} holds no curve: {error}", "delete it and run the workflow") from error


def curves_table(rows: Mapping[str, Mapping[str, Mapping[str, Curve]]]) -> pd.DataFrame:
    """One line per row, target, seed, share and metric, with the columns of COLUMNS.

    Args:
        rows: label -> target name -> seed -> curve.
    """
    lines: list[dict[str, Any]] = []
    for row, targets in rows.items():
        for seeds in targets.values():
            for seed, found in seeds.items():
                about = {"row": row, "seed": seed, "target": found.target, "task": found.task}
                about["note"] = found.note
                for point in found.points:
                    size = {name: point[name] for name in ("share", "subjects", "draws")}
                    size["note"] = "; ".join(note for note in (found.note, point["note"]) if note)
                    lines += [{**about, **size, "metric": m, **v} for m, v in point["metrics"].items()]
                if not found.points:
                    lines.append(about)
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _scores(
    predictions: pd.DataFrame, rows: pd.DataFrame, classes: list[str], target: Target
) -> dict[str, float]:
    """The metrics of all folds together, R2 against the mean of each fold's whole training part.

    Against the mean of a few subjects, which lies anywhere, few labels would look like many.
    """
    if not classes:
        known = {fold: rows.truth[rows.fold != fold].mean() for fold in set(rows.fold)}
        predictions = predictions.assign(null=predictions.fold.map(known))
    return pooled_metrics(predictions, classes, target)


def _over(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and sd of draws; None where one is undefined."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
    return {"value": _finite(float(np.mean(values))), "sd": _finite(sd)}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _order(draw: int, subject: str) -> bytes:
    """A place in the draw's order that depends on nobody else."""
    return sha256(f"{draw}/{subject}".encode()).digest()
