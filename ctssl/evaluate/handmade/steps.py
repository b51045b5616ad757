"""What is fitted on training scans before the linear model: words of a codebook, signatures of divergences.

Both are steps of an sklearn pipeline. A step takes the numbers of scans (n, 1), and knows where the values of
each scan lie. What `fit` learns cannot depend on a scan that is tested: it reads values of the scans that it
is given, and a signature's those of subjects who are never tested.
"""

from collections.abc import Collection, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from ctssl.errors import CohortError
from ctssl.evaluate.labels import feature_matrix

WORDS, SIGNATURE, CLINICAL = "words", "signature", "clinical"

_MOST_POINTS = 30_000  # descriptors that a codebook is made of: more move its words little
_LEAST_SHARE = 1e-6  # of the largest eigenvalue; smaller ones and negative ones are rounding, or no distance


class Step(TransformerMixin, BaseEstimator):
    """A step that shares its values with its clones, and remembers what it fitted on the same scans.

    Penalties are compared on the same inner folds: without a memory, each would be fitted again.
    """

    def __init__(self, values: Any, about: dict[str, Any], memory: dict[bytes, Any]) -> None:
        self.values = values
        self.about = about
        self.memory = memory

    def __sklearn_clone__(self) -> Self:
        return type(self)(self.values, self.about, self.memory)

    def fit(self, x: np.ndarray, y: Any = None) -> Self:
        """This step, fitted on the scans with these numbers (n, 1); labels are not looked at."""
        scans = np.unique(_numbers(x))
        key = scans.tobytes()
        if key not in self.memory:
            self.memory[key] = self._fitted(scans)
        self.fitted_ = self.memory[key]
        return self

    def _fitted(self, scans: np.ndarray) -> Any:
        """What is learnt from these scans (n,), which rise."""
        raise NotImplementedError

    def notes(self, x: np.ndarray, inner: Sequence[int] | None) -> list[str]:
        """What is to be said of a fit on these scans (n, 1), and on all but each of the inner folds (n,)."""
        return []

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "fitted_")


class Words(Step):
    """Shares of a scan's patches by the nearest of k words, means of the training scans' descriptors.

    `values` are the descriptors (n, D) of each scan; `about` names `words`, at most how many there are.

    Source: bag of features as Schabdach et al., IPMI 2017, compare with; k-means of sklearn.
    """

    def _fitted(self, scans: np.ndarray) -> np.ndarray:
        """(k, D) the words."""
        from sklearn.cluster import KMeans

        points = np.concatenate([self.values[scan] for scan in scans])
        if len(points) > _MOST_POINTS:
            drawn = np.random.default_rng(0).choice(len(points), _MOST_POINTS, replace=False)
            points = points[np.sort(drawn)]
        count = min(self.about["words"], len(np.unique(points, axis=0)))
        return KMeans(count, n_init=1, random_state=0).fit(points).cluster_centers_

    def transform(self, x: np.ndarray) -> np.ndarray:
        """(n, k) of the scans with these numbers (n, 1)."""
        return np.stack([word_shares(self.values[scan], self.fitted_) for scan in _numbers(x)])


class Signature(Step):
    """Places of scans in the space that a kernel of divergences between anchors spans.

    `values` are divergences (scans, anchors); `about` names `rows` (the scan that each anchor is), `subjects`
    (a number of each scan's), `labelled` (the scans that have a label), `width` (of the kernel, in medians of
    the anchors' divergences) and `components` (at most so many). An anchor is used when its subject has
    another or the same scan in training, or no labelled scan at all, so is in no test. K = exp(-D / width)
    of these has eigenvectors V and eigenvalues L; the largest are kept, none that is negative. A scan with
    kernel row k lies at k V / sqrt(L) (Nystroem), which for the anchors themselves is V sqrt(L). With fewer
    than two anchors all scans lie at 0, and the linear model has nothing but the labels.

    Source: ours; Schabdach et al., IPMI 2017, embed divergences in another way. Williams, Seeger, NIPS 2000.
    """

    def _fitted(self, scans: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """Numbers of the anchors (A,), width in nats, projection (A, components)."""
        used = self._used(scans)
        if len(used) < 2:
            return used[:0], 1.0, np.empty((0, 1))
        between = self.values[np.ix_(np.asarray(self.about["rows"])[used], used)].astype(np.float64)  # (A, A)
        typical = float(np.median(between[~np.eye(len(used), dtype=bool)]))
        width = self.about["width"] * (typical if typical > 0 else 1.0)  # 0: all are alike
        kernel = np.exp(-(between + between.T) / 2 / width)
        values, vectors = np.linalg.eigh(kernel)
        kept = np.flatnonzero(values > _LEAST_SHARE * values[-1])[::-1][: self.about["components"]]
        return used, width, vectors[:, kept] / np.sqrt(values[kept])

    def _used(self, scans: np.ndarray) -> np.ndarray:
        """Numbers (A,) of the anchors that a fit on these scans (n,) may use."""
        subjects = np.asarray(self.about["subjects"])
        trains = np.isin(subjects, subjects[scans])
        in_no_test = ~np.isin(subjects, subjects[self.about["labelled"]])
        return np.flatnonzero((trains | in_no_test)[self.about["rows"]])

    def notes(self, x: np.ndarray, inner: Sequence[int] | None) -> list[str]:
        """What follows from too few anchors."""
        scans, folds = _numbers(x), np.asarray([] if inner is None else inner)
        if len(self._used(scans)) < 2:
            said = "the training mean, or the most frequent class, or the same risk of all, is predicted"
            return [f"fewer than 2 anchors, so {said}"]
        if short := sum(len(self._used(scans[folds != fold])) < 2 for fold in np.unique(folds)):
            return [f"fewer than 2 anchors in {short} inner fold(s), which say nothing of the penalty"]
        return []

    def transform(self, x: np.ndarray) -> np.ndarray:
        """(n, components) of the scans with these numbers (n, 1)."""
        used, width, projection = self.fitted_
        return np.exp(-self.values[np.ix_(_numbers(x), used)].astype(np.float64) / width) @ projection


def word_shares(points: np.ndarray, words: np.ndarray) -> np.ndarray:
    """(k,) which shares of the points (n, D) have each of the words (k, D) nearest."""
    squares = (words**2).sum(1) - 2 * points @ words.T  # (n, k), less the points' own, which changes no order
    return np.bincount(squares.argmin(1), minlength=len(words)) / len(points)


def split_off(table: pd.DataFrame, labelled: Collection[str]) -> tuple[pd.DataFrame, Step | None]:
    """What a probe takes: a row per scan, and the step that makes its features; None where they are ready.

    With a step, f000 is the number of the scan. Scans are in the order of their ids, whatever that of the
    table, which is that of the manifest: k-means would find other words.

    Args:
        table: of a baseline or a run; its attrs say what is still to be fitted.
        labelled: the scans that have a label, of which every one is tested in some fold.

    Raises:
        CohortError: they say something unknown.
    """
    about = table.attrs.get("fitted")
    if about is None:
        return table, None
    numbers, names = pd.factorize(table.scan, sort=True)
    scans = pd.DataFrame({"scan": names, "subject": table.groupby(numbers).subject.first().to_numpy()})
    scans["f000"] = np.arange(len(scans), dtype=float)
    values = feature_matrix(table).astype(np.float32)[np.argsort(numbers, kind="stable")]
    if about["kind"] == WORDS:
        return scans, Words(np.split(values, np.cumsum(np.bincount(numbers))[:-1]), about, {})
    if about["kind"] == SIGNATURE:
        place = {name: row for row, name in enumerate(names)}
        of_scans = {
            "rows": [place[name] for name in about["anchors"]],
            "subjects": pd.factorize(scans.subject)[0],
            "labelled": np.flatnonzero(scans.scan.isin(list(labelled))),
        }
        return scans, Signature(values, about | of_scans, {})
    if about["kind"] == CLINICAL:
        from ctssl.evaluate.handmade.clinical import Clinical

        return scans, Clinical(values, about, {})
    raise CohortError(f"the table needs a step {about['kind']!r}, which is not known", "make it anew")


def _numbers(x: np.ndarray) -> np.ndarray:
    """(n,) int64, of (n, 1) floats."""
    return np.asarray(x)[:, 0].astype(np.int64)
