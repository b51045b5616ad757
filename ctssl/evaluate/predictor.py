"""The final probe of a target: fitted on all labelled scans, with what it needs to say how sure it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ctssl.config.evaluation import Target
from ctssl.errors import CohortError
from ctssl.evaluate.cloud import Cloud
from ctssl.evaluate.conformal import COVERAGE, class_sets, interval, subject_weights
from ctssl.evaluate.labels import feature_matrix, join_labels, sort_classes
from ctssl.evaluate.linear import fit_probe

FAR = 0.01
"""Share of training scans' subjects that lie farther out than a scan that is called far."""

_SHOWN = 10


@dataclass(frozen=True)
class Predictor:
    """A fitted probe, as plain numbers: no scan and no subject is named.

    Model 0 has seen all labelled scans, model 1 + k all but those of fold k. A model is linear in features:
    of a number it gives the value, of classes what a softmax makes probabilities of.

    Attributes:
        target: name, task, column, log.
        classes: their names; () where a number is predicted.
        n, subjects: labelled scans and their subjects.
        weights: (1 + K, C, D); C is 1 for a number.
        biases: (1 + K, C); -inf of a class that the model did not see.
        folds: (n,) of each labelled scan, 0 to K - 1; this and the next three are empty when there are no
            two folds.
        errors: (n,) of the model without the scan's fold: absolute, or 1 - probability of the true class.
        shares: (n,) how much each scan counts (`subject_weights`).
        distances: (n,) from the cloud of the other folds' scans.
        cloud: of all labelled scans.
        made_by: what made the features (`write_table`); "" where nobody said.
        note: what was done otherwise than usual.
    """

    target: Target
    classes: tuple[str, ...]
    n: int
    subjects: int
    weights: np.ndarray
    biases: np.ndarray
    folds: np.ndarray
    errors: np.ndarray
    shares: np.ndarray
    distances: np.ndarray
    cloud: Cloud
    made_by: str
    note: str

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """Columns scan, subject, prediction, low, high (or set, score_CLASS), distance, far, n, subjects.

        Numbers are in the unit of the label column, also of a target with `log`. `low` and `high` are made
        to hold the truth of 90 % of new subjects, and so is `set`, whose classes are joined by '; '
        (ctssl.evaluate.conformal says what that promises); without enough subjects low and high are nan.
        `distance` is 1 where training scans typically lie; `far` is yes beyond 99 % of them, so that model
        and interval say little; "" when nobody can say.

        Args:
            features: columns scan, subject, f000 ..., of the kind that the probe was fitted on.

        Raises:
            CohortError: there are other features than those, or one is no finite number.
        """
        x = self._checked(features)
        outputs = np.einsum("md,kcd->mkc", x, self.weights) + self.biases  # (m, 1 + K, C)
        said = self._classes(outputs) if self.classes else self._numbers(outputs[:, :, 0])
        distance, far = self._far(x)
        front = features[["scan", "subject"]].reset_index(drop=True)
        said = said.assign(distance=distance, far=far, n=self.n, subjects=self.subjects)
        return pd.concat([front, said], axis=1)

    def _numbers(self, outputs: np.ndarray) -> pd.DataFrame:
        value = outputs[:, 0]
        low, high = interval(outputs[:, 1:], self.folds, self.errors, self.shares, COVERAGE)
        columns = {"prediction": value, "low": np.minimum(low, value), "high": np.maximum(high, value)}
        back = np.exp if self.target.log else lambda values: values
        return pd.DataFrame({k: np.where(np.isfinite(v), back(v), np.nan) for k, v in columns.items()})

    def _classes(self, outputs: np.ndarray) -> pd.DataFrame:
        scores = _softmax(outputs)
        best = scores[:, 0].argmax(1)
        held = class_sets(scores[:, 1:], self.folds, self.errors, self.shares, COVERAGE)
        held[np.arange(len(best)), best] = True
        names = np.array(self.classes, object)
        sets = ["; ".join(names[row]) for row in held]
        columns = {f"score_{c}": scores[:, 0, i] for i, c in enumerate(self.classes)}
        return pd.DataFrame({"prediction": names[best], "set": sets, **columns})

    def _far(self, x: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """(m,) distances, relative to a typical one, and yes, no or "" of each."""
        found = self.cloud.distances(x)
        if not len(self.distances):
            return found, [""] * len(found)
        beyond = (self.distances >= found[:, None]) @ self.shares + 1 / (self.subjects + 1)
        far = beyond <= max(FAR, 1 / (self.subjects + 1)) + 1e-9
        return found / max(float(np.median(self.distances)), 1e-9), ["yes" if f else "no" for f in far]

    def _checked(self, features: pd.DataFrame) -> np.ndarray:
        """(m, D) of the table."""
        made_by, x = str(features.attrs.get("made_by", "")), feature_matrix(features)
        if self.made_by and made_by and made_by != self.made_by:
            raise CohortError(
                f"the probe of {self.target.name} was fitted on features of {self.made_by[:40]}, but these "
                f"are of {made_by[:40]}",
                "use features that were made with the same weights",
            )
        if x.shape[1] != self.weights.shape[2]:
            raise CohortError(
                f"the probe of {self.target.name} takes {self.weights.shape[2]} features, but the table has "
                f"{x.shape[1]}",
                "use features that were made with the same weights",
            )
        if (bad := ~np.isfinite(x).all(1)).any():
            scans = ", ".join(features.scan[bad].astype(str)[:_SHOWN])
            raise CohortError(f"features should be finite numbers, but not so: {scans}", "make them again")
        return x


def fit_predictor(
    features: pd.DataFrame, labels: pd.Series, folds: Mapping[str, int], target: Target
) -> Predictor:
    """The probe of all labelled scans, and those without each fold, fitted as `probe` fits them.

    Args:
        features: columns scan, subject, f000 ..., one row per scan; attrs made_by.
        labels: scan -> label, as `read_labels` gives it.
        folds: subject -> fold.
        target: names the task.

    Raises:
        CohortError: no scan has a label and features; or as `join_labels`.
    """
    rows, _ = join_labels(features, labels, folds)
    if rows.empty:
        raise CohortError(
            f"target {target.name} is known of no scan that has features",
            f"fill column {target.column} of the table of scans, or remove the target",
        )
    classes = tuple(sort_classes(rows.truth)) if target.task == "classify" else ()
    used = sorted(set(rows.fold)) if rows.fold.nunique() > 1 else []
    models, notes, kept = [], [], len(rows) if used else 0
    errors, distances = np.empty(kept), np.empty(kept)
    for fold in (None, *used):
        out = (rows.fold == fold).to_numpy()
        fitted, _, said = fit_probe(rows[~out], target.task)
        notes += [f"all scans: {words}" if fold is None else f"fold {fold}: {words}" for words in said]
        models.append(_linear(fitted, classes, feature_matrix(rows).shape[1]))
        if fold is not None:
            x = feature_matrix(rows)
            errors[out] = _errors(*models[-1], x[out], rows.truth[out], classes)
            distances[out] = Cloud.of(x[~out]).distances(x[out])
    subjects = rows.subject.nunique()
    if not used:
        notes.append("fewer than 2 folds with labelled scans, so errors are not known: no interval")
    elif 1 / (subjects + 1) > 1 - COVERAGE + 1e-9:
        notes.append(f"{subjects} subjects are too few for an interval of {COVERAGE:.0%}")
    weights, biases = (np.stack(part) for part in zip(*models, strict=True))
    return Predictor(
        target=target,
        classes=classes,
        n=len(rows),
        subjects=subjects,
        weights=weights,
        biases=biases,
        folds=np.searchsorted(used, rows.fold) if used else np.empty(0, int),
        errors=errors,
        shares=subject_weights(rows.subject)[:kept],
        distances=distances,
        cloud=Cloud.of(feature_matrix(rows)),
        made_by=str(features.attrs.get("made_by", "")),
        note="; ".join(notes),
    )


def _linear(model: Any, classes: tuple[str, ...], width: int) -> tuple[np.ndarray, np.ndarray]:
    """(C, D) weights and (C,) biases of what `fit_probe` fitted, its scaler included."""
    weights = np.zeros((max(len(classes), 1), width))
    biases = np.full(len(weights), -np.inf if classes else 0.0)
    if not hasattr(model, "named_steps"):  # with one subject or one class, the mean or that class
        if classes:
            biases[classes.index(model.classes_[0])] = 0
        else:
            biases[:] = model.constant_.item()
        return weights, biases
    scaler, linear = model["scale"], model["linear"]
    slopes = np.atleast_2d(linear.coef_) / scaler.scale_
    shifts = np.atleast_1d(linear.intercept_) - slopes @ scaler.mean_
    if not classes:
        return slopes, shifts
    if len(linear.classes_) == 2:  # sklearn keeps the second one's odds only
        slopes, shifts = np.stack([0 * slopes[0], slopes[0]]), np.array([0, shifts[0]])
    places = [classes.index(name) for name in linear.classes_]
    weights[places], biases[places] = slopes, shifts
    return weights, biases


def _errors(
    weights: np.ndarray, biases: np.ndarray, x: np.ndarray, truth: pd.Series, classes: tuple[str, ...]
) -> np.ndarray:
    """(m,) of one model on scans that it has not seen."""
    outputs = x @ weights.T + biases
    if not classes:
        return np.abs(outputs[:, 0] - truth.to_numpy(float))
    own = [classes.index(name) for name in truth]
    return 1 - _softmax(outputs)[np.arange(len(own)), own]


def _softmax(outputs: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    powers = np.exp(outputs - outputs.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
