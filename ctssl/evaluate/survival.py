"""Time to an event: Cox regression on features, and how well its risks order those who had the event.

A truth is one number: the time from which the event is known, or, with a minus, the time until which there
was none (`ctssl.outcomes`). scikit-survival fits and counts; what is written here again serves the bootstrap
and the choice of a penalty, and tests hold it to that library and to statsmodels.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from ctssl.errors import ConfigError
from ctssl.evaluate.splits import inner_folds

ALPHAS = np.logspace(4, -1, 6)
"""Ridge penalties to choose from, strong to weak, as half of it times the sum of squared coefficients."""

MOST_DIRECTIONS = 128
"""Of features: more of them than this, or than scans, are turned into their first principal components."""

INNER_FOLDS, MAX_ITER = 5, 200
TIED = 1e-8  # risks that differ by no more are equal, as of scikit-survival
_BLOCK = 512  # events whose pairs are counted at once


def fit_cox(
    x: np.ndarray, truth: np.ndarray, subjects: pd.Series, step: Any = None
) -> tuple[Any, dict[str, float], list[str]]:
    """A model whose `predict` gives log hazard ratios, the penalty that was chosen, notes.

    Scaler and Cox regression with a ridge (ties as of Breslow). The penalty is the one under which the
    coefficients from the other inner folds make all events most likely, less what they do of the other folds
    alone (cross-validated partial likelihood). Without two subjects or any event all risks are equal.

    Args:
        x: (n, D) features, or what `step` takes.
        truth: (n,) times in any unit, with a minus where the event did not come.
        subjects: (n,).
        step: an unfitted transformer that comes before the scaler, fitted wherever that is.

    Source: Cox, J R Stat Soc B 34:187, 1972; Verweij, van Houwelingen, Stat Med 12:2305, 1993 (the penalty).
    """
    from sklearn.dummy import DummyRegressor
    from threadpoolctl import threadpool_limits

    times, event = np.abs(truth), truth > 0
    if pd.Series(subjects).nunique() < 2 or not _orders(times, event):
        why = "no event in training with somebody who was followed longer, so all risks are equal"
        return DummyRegressor(strategy="constant", constant=0.0).fit(x, truth), {}, [why]
    kinds = np.where(event, "event", "none").tolist()
    balanced = inner_folds(subjects, kinds, INNER_FOLDS)
    inner = np.array(balanced or inner_folds(subjects, None, INNER_FOLDS))
    scores = np.zeros(len(ALPHAS))
    with threadpool_limits(1):  # on small matrices more threads wait for each other
        for fold in sorted(set(inner)):
            rest = inner != fold
            if _orders(times[rest], event[rest]):  # else there is nothing to fit
                scores += _held_out(x, truth, rest, step)
        alpha = float(ALPHAS[scores.argmax()])
        model, converged = _fitted(x, truth, alpha, step)
    said = [] if converged else [f"Cox regression has not converged in {MAX_ITER} steps"]
    said += [] if step is None else step.notes(x, inner)
    return model, {"alpha": alpha}, said


def concordance(truth: np.ndarray, risk: np.ndarray) -> float:
    """The share of comparable pairs in which who had the event first had the higher risk; nan without pairs.

    Source: Harrell et al., JAMA 247:2543, 1982, by scikit-survival; equal risks count half.
    """
    _needs_library()
    from sksurv.exceptions import NoComparablePairException
    from sksurv.metrics import concordance_index_censored

    event = truth > 0
    if len(truth) < 2 or not event.any():
        return np.nan
    try:
        return float(concordance_index_censored(event, np.abs(truth), risk, tied_tol=TIED)[0])
    except NoComparablePairException:
        return np.nan


def drawn_concordances(truth: np.ndarray, risk: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(draws,) `concordance` of draws in which rows come so often; nan without pairs.

    Args:
        truth, risk: (n,).
        counts: (draws, n).
    """
    time, event = np.abs(truth), truth > 0
    agree, pairs = np.zeros(len(counts)), np.zeros(len(counts))
    events = np.flatnonzero(event)
    for start in range(0, len(events), _BLOCK):
        own = events[start : start + _BLOCK]
        later = (time > time[own, None]) | ((time == time[own, None]) & ~event)  # (block, n)
        less = risk[own, None] - risk
        right = later * np.where(np.abs(less) <= TIED, 0.5, less > 0)
        pairs += ((counts[:, own] @ later) * counts).sum(1)
        agree += ((counts[:, own] @ right) * counts).sum(1)
    return np.divide(agree, pairs, out=np.full(len(counts), np.nan), where=pairs > 0)


def partial_log_likelihood(truth: np.ndarray, risk: np.ndarray) -> float:
    """Cox's, of log hazard ratios (n,); equal times as of Breslow."""
    order = np.argsort(-np.abs(truth), kind="stable")
    time, event, risk = np.abs(truth)[order], truth[order] > 0, risk[order]
    at_risk = np.logaddexp.accumulate(risk)
    last = np.searchsorted(-time, -time, side="right") - 1  # all with the same time are at risk
    return float((risk - at_risk[last])[event].sum())


def _held_out(x: np.ndarray, truth: np.ndarray, rest: np.ndarray, step: Any) -> np.ndarray:
    """(ALPHAS,) how likely the events of those not in `rest` (n,) are by what is fitted on it."""
    front = _front(x[rest], step)
    scaled = front.transform(x)
    found = np.zeros(len(ALPHAS))
    for place, alpha in enumerate(ALPHAS):
        risk = _cox(scaled[rest], truth[rest], alpha)[0].predict(scaled)
        found[place] = partial_log_likelihood(truth, risk) - partial_log_likelihood(truth[rest], risk[rest])
    return found


def _orders(times: np.ndarray, event: np.ndarray) -> bool:
    """Whether anybody had the event while another was still followed."""
    if not event.any():
        return False
    first = times[event].min()
    return bool(((times > first) | ((times == first) & ~event)).any())


def _fitted(x: np.ndarray, truth: np.ndarray, alpha: float, step: Any) -> tuple[Any, bool]:
    """The pipeline, fitted, and whether it has converged."""
    from sklearn.pipeline import Pipeline

    front = _front(x, step)
    cox, converged = _cox(front.transform(x), truth, alpha)
    return Pipeline([*front.steps, ("linear", cox)]), converged


def _front(x: np.ndarray, step: Any) -> Any:
    """What comes before the regression, fitted."""
    from sklearn.base import clone
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    first = [] if step is None else [("step", clone(step))]
    front = Pipeline([*first, ("scale", StandardScaler())])
    scaled = front.fit_transform(x)
    most = min(MOST_DIRECTIONS, len(scaled) - 1)
    if scaled.shape[1] > most:  # turned: where all directions are kept the same model, with a small Hessian
        front.steps.append(("turn", PCA(most, svd_solver="full").fit(scaled)))
    return front


def _cox(scaled: np.ndarray, truth: np.ndarray, alpha: float) -> tuple[Any, bool]:
    """The regression, fitted, and whether it has converged."""
    _needs_library()
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        cox = CoxPHSurvivalAnalysis(alpha=alpha, n_iter=MAX_ITER)
        cox.fit(scaled, Surv.from_arrays(truth > 0, np.abs(truth)))
    return cox, not any("not converge" in str(one.message) for one in heard)


def _needs_library() -> None:
    try:
        import sksurv  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            "targets of task survive need scikit-survival, which is not installed",
            'install it with `pip install "ctssl[survival]"`, or take these targets out of the config',
        ) from error
