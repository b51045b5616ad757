"""On what a row was pretrained, in words: this cohort or another, and whether that one was prepared alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctssl.config.runs import How
from ctssl.evaluate.published import NOTHING, OF_AUTHORS

NOT_STATED = "not stated"
PARTS = ("recipes", "volume", "mask", "registering", "storing")
"""What of a preparation decides what features see; the limits of quality only decide who is seen."""


@dataclass(frozen=True)
class Origin:
    """Where the weights of a row come from.

    Attributes:
        on: the cohort they were pretrained on, in words.
        remark: what else a reader must know, a sentence, or nothing.
    """

    on: str
    remark: str = ""


def origin(
    how: How, cohort: str, card: Mapping[str, Any] | None = None, preparation: Mapping[str, Any] | None = None
) -> Origin:
    """Where the weights of a row come from.

    Args:
        how: they were made.
        cohort: name of this study's cohort; empty: not stated.
        card: of weights that were given.
        preparation: of this study's scans, as `ctssl.preparation.about` says it; None: not known.
    """
    if how == "nothing":
        return Origin(NOTHING)
    if how == "given":
        return _given(cohort, card or {}, preparation)
    return Origin(_here(cohort, "transductive" if how == "all" else "inside the folds"))


def _here(cohort: str, way: str) -> str:
    return f"{cohort} (this cohort, {way})" if cohort else f"this cohort ({way})"


def _given(cohort: str, card: Mapping[str, Any], preparation: Mapping[str, Any] | None) -> Origin:
    if card.get("method") == "untrained":
        return Origin(NOTHING)
    name = card.get("cohort_name")
    if isinstance(name, str) and name.strip():
        name = name.strip()
        on = _here(name, "transductive") if name.casefold() == cohort.casefold() else name
    else:
        on = OF_AUTHORS if card.get("imported") else NOT_STATED
    return Origin(on, _unlike(card.get("preparation"), preparation))


def _unlike(theirs: Any, ours: Mapping[str, Any] | None) -> str:
    """What differs in how scans were prepared; features of other scans then mean less."""
    if not isinstance(theirs, Mapping):
        return "How the scans it learnt from were prepared is not known"
    if ours is None:
        return "How the scans of this study were prepared is not known"
    other = [part for part in PARTS if theirs.get(part) != ours.get(part)]
    return f"The scans it learnt from were prepared otherwise than these: {', '.join(other)}" if other else ""
