"""The models of a probe: scaler, linear model, and a penalty that is chosen inside the training rows."""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from ctssl.evaluate.labels import feature_matrix
from ctssl.evaluate.splits import inner_folds

ALPHAS = np.logspace(4, -2, 7)
"""Ridge penalties to choose from, strong to weak: of equal scores the first, the stronger, wins."""

STRENGTHS = np.logspace(-4, 1, 6)
"""Logistic regression's C (inverse penalty) to choose from, strong penalty to weak."""

INNER_FOLDS, MAX_ITER = 5, 5000
FLOOR = 1e-6  # least probability when penalties are compared: one wrong scan must not decide alone


def fit_probe(train: pd.DataFrame, task: str, step: Any = None) -> tuple[Any, dict[str, float], list[str]]:
    """The fitted model, the penalty that was chosen, and notes; sees nothing but these rows.

    `train` has columns subject, truth, f000 ..., one row per scan; `task` is regress, classify or survive
    (truth as ctssl.outcomes has it). Scaler and ridge, logistic or Cox regression
    (ctssl.evaluate.survival); the penalty is the best of a grid in a cross-validation over subjects
    within the rows (at most 5 folds; squared error or log likelihood). Where fewer than two classes have two
    subjects there is no such choice, and C is 1. A `step` (an unfitted one of
    ctssl.evaluate.handmade.steps) comes before the scaler and is fitted wherever that is, also within the
    inner folds.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    x, y = feature_matrix(train), train.truth.to_numpy()
    if task == "survive":
        from ctssl.evaluate.survival import fit_cox

        return fit_cox(x, y.astype(float), train.subject, step)
    if task == "regress" and train.subject.nunique() < 2:
        return DummyRegressor().fit(x, y), {}, ["one training subject, so its mean is predicted"]
    if task == "classify" and len(set(y)) < 2:
        return DummyClassifier().fit(x, y), {}, [f"one class in training, so {y[0]} is predicted"]
    name, linear, grid, score = (
        ("alpha", Ridge(), ALPHAS, "neg_mean_squared_error")
        if task == "regress"
        else ("C", LogisticRegression(C=1.0, max_iter=MAX_ITER), STRENGTHS, _log_likelihood)
    )
    first = [] if step is None else [("step", step)]
    model = Pipeline([*first, ("scale", StandardScaler()), ("linear", linear)])
    inner, said = inner_folds(train.subject, train.truth if task == "classify" else None, INNER_FOLDS), []
    # One thread: on small matrices more of them wait for each other. Convergence is read off n_iter_ below.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if inner is None:
            model.fit(x, y)
            said.append("too few subjects per class to choose C, so it is 1")
        else:
            cv = PredefinedSplit(inner)
            search = GridSearchCV(
                model, {f"linear__{name}": grid}, cv=cv, scoring=score, error_score="raise"
            ).fit(x, y)
            model = search.best_estimator_
    if task == "classify" and model["linear"].n_iter_.max() >= MAX_ITER:
        said.append(f"logistic regression has not converged in {MAX_ITER} steps")
    said += [] if step is None else step.notes(x, inner)
    return model, {name: float(getattr(model["linear"], name))}, said


def _log_likelihood(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    """The mean log probability of the true classes; what GridSearchCV makes large."""
    own = (model.predict_proba(x) * (y[:, None] == model.classes_)).sum(1)
    return float(np.log(np.maximum(own, FLOOR)).mean())
