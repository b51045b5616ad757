"""Hand-made features as tables: finished ones, like any run's, and ones whose last step a probe fits.

A finished table has one row per scan. What is fitted (`ctssl.evaluate.handmade.steps`) is fitted inside the
folds, so its table holds what is there before: the descriptors of every patch (a row each), or the
divergences of every scan from the anchors; the table's attrs say under `fitted` what a probe makes of them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctssl.config.baselines import (
    BASELINES,
    BagOfFeatures,
    Clinical,
    Descriptors,
    Divergence,
    Majority,
    Texture,
)
from ctssl.errors import CohortError, StoreError
from ctssl.evaluate.handmade.clinical import clinical_table
from ctssl.evaluate.kept import keep, kept
from ctssl.log import Progress, say
from ctssl.prepare.densitometry import MEASURES
from ctssl.recipes import RECIPES
from ctssl.store.reader import Store

LAA950 = ("laa_950_percent",)


@dataclass(frozen=True)
class Cohort:
    """Whose features are made.

    Attributes:
        stores: one per scan.
        subjects: the subject of each.
        cache: folder of what was computed of each scan; made when it is needed.
        columns: name -> scan -> text, of those of the manifest that a baseline takes.
    """

    stores: Sequence[Store]
    subjects: Sequence[str]
    cache: Path
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def write_baseline(method: str, options: dict[str, Any], cohort: Cohort, out: Path) -> None:
    """Nothing; writes the table of hand-made features as parquet: scan, subject, f000, f001, ...

    Args:
        method: a key of `BASELINES`.
        options: its options, as in the config.
        cohort: the scans; one that shows too little for the method is left out, and that is said.
        out: the parquet file.

    Raises:
        StoreError: a store lacks a measure that is asked for.
        CohortError: no scan shows enough.
        ConfigError: a library is missing.
    """
    chosen = BASELINES[method].model_validate(options)
    if isinstance(chosen, Texture):
        table = _texture(cohort, chosen)
    elif isinstance(chosen, BagOfFeatures):
        table = _descriptors(cohort, chosen)
    elif isinstance(chosen, Divergence):
        table = _divergences(cohort, chosen)
    elif isinstance(chosen, Clinical):
        table = clinical_table([store.scan for store in cohort.stores], cohort.subjects, cohort.columns)
    elif isinstance(chosen, Majority):
        nothing = np.zeros((len(cohort.stores), 1))
        table = _table([store.scan for store in cohort.stores], cohort.subjects, nothing)
    else:
        table = _measures(cohort, LAA950 if method == "laa-950" else MEASURES)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(out, index=False, write_page_checksum=True)


def _measures(cohort: Cohort, names: Sequence[str]) -> pd.DataFrame:
    """Float64 features: what the cards of the stores say was measured."""
    for store in cohort.stores:
        there = store.card.get("measures", {})
        if missing := [name for name in names if name not in there]:
            raise StoreError(
                f"the card of store {store.path} should have the measure {missing[0]}, but has none",
                "delete this directory and run the workflow again: it makes the store anew, with all that is "
                "measured, and trains nothing again; stores from elsewhere must be made anew there, or take "
                "the baseline out of `baselines` in the config",
            )
    values = np.array([[float(s.card["measures"][name]) for name in names] for s in cohort.stores])
    return _table([s.scan for s in cohort.stores], cohort.subjects, values)


def _texture(cohort: Cohort, options: Texture) -> pd.DataFrame:
    from ctssl.evaluate.handmade.texture import texture_of_scan

    how = _how("texture", options.model_dump(mode="json"))
    found = _of_each(cohort, how, lambda store: texture_of_scan(store, options), least=1)
    return _table([s for s, _, _ in found], [p for _, p, _ in found], np.stack([v for _, _, v in found]))


def _descriptors(cohort: Cohort, options: BagOfFeatures) -> pd.DataFrame:
    """A row per patch; a probe makes a codebook of them."""
    sets = _sets(cohort, options, least=1)
    scans = [scan for scan, _, points in sets for _ in points]
    subjects = [subject for _, subject, points in sets for _ in points]
    table = _table(scans, subjects, np.concatenate([points for _, _, points in sets]))
    table.attrs["fitted"] = {"kind": "words", "words": options.words}
    return table


def _divergences(cohort: Cohort, options: Divergence) -> pd.DataFrame:
    """A row per scan, a column per anchor; a probe makes signatures of those anchors that are not tested.

    Anchors are drawn by their ids, so that a new scan seldom is one. Labels have no part in that.
    """
    from ctssl.evaluate.handmade.pairs import Pairs

    sets = _sets(cohort, options, least=options.neighbours + 1)
    drawn = sorted((scan for scan, _, _ in sets), key=lambda scan: sha256(scan.encode()).digest())
    drawn = drawn[: options.anchors]
    digests = {store.scan: store.card["digest"] for store in cohort.stores}
    how = _how("divergences", _described(options), options.neighbours)
    described = {digests[scan]: points for scan, _, points in sets}
    pairs = Pairs(described, options.neighbours, cohort.cache, how)
    anchors = [digests[scan] for scan in drawn]
    rows = []
    with Progress("divergences", len(sets), "scans") as progress:
        for scan, _, _ in sets:
            rows.append(pairs.divergences(digests[scan], anchors))
            progress.advance()
    table = _table([scan for scan, _, _ in sets], [subject for _, subject, _ in sets], np.stack(rows))
    about = {"anchors": drawn, "width": options.width, "components": options.components}
    table.attrs["fitted"] = {"kind": "signature", **about}
    return table


def _sets(
    cohort: Cohort, options: BagOfFeatures | Divergence, least: int
) -> list[tuple[str, str, np.ndarray]]:
    """Scan, subject and descriptors (n, D) of all scans that have at least so many."""
    from ctssl.evaluate.handmade.descriptors import describe_scan, width

    columns = width(options)
    found = _of_each(
        cohort,
        _how("descriptors", _described(options)),
        lambda store: describe_scan(store, options).ravel(),
        least * columns,
    )
    return [(scan, subject, values.reshape(-1, columns)) for scan, subject, values in found]


def _of_each(
    cohort: Cohort, how: str, make: Callable[[Store], np.ndarray], least: int
) -> list[tuple[str, str, np.ndarray]]:
    """Scan, subject and values (n,) float32 of every scan that has at least so many values."""
    found = []
    with Progress("hand-made features", len(cohort.stores), "scans") as progress:
        for store, subject in zip(cohort.stores, cohort.subjects, strict=True):
            values = _cached(cohort, store.card["digest"], how, partial(make, store))
            if len(values) >= least:
                found.append((store.scan, subject, values))
            else:
                say(f"{store.scan} shows too few patches for these features and is left out")
            progress.advance()
    if not found:
        raise CohortError(
            "no scan shows enough patches of lung for these features", "take them out of `baselines`"
        )
    return found


def _cached(cohort: Cohort, digest: str, how: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """(n,) float32, of the store with this digest, computed once."""
    place = cohort.cache / f"{digest}-{how}.npy"
    values = kept(place)
    if values is None:
        values = make()
        cohort.cache.mkdir(parents=True, exist_ok=True)
        keep(place, values)
    return values


def _described(options: Descriptors) -> dict[str, Any]:
    """What of the options descriptors depend on."""
    return options.model_dump(mode="json", include=set(Descriptors.model_fields))


def _how(*parts: Any) -> str:
    """sha256 of all but the scan that values depend on."""
    return sha256(json.dumps([RECIPES["baseline"], *parts], sort_keys=True).encode()).hexdigest()


def _table(scans: Sequence[str], subjects: Sequence[str], values: np.ndarray) -> pd.DataFrame:
    """Columns scan, subject, f000, f001, ... of values (n, D), of whatever type they have."""
    table = pd.DataFrame(values, columns=[f"f{i:03}" for i in range(values.shape[1])])
    table.insert(0, "scan", list(scans))
    table.insert(1, "subject", list(subjects))
    return table
