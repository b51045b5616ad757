"""A fitted probe as a file: JSON, numbers and words alone, which is read without running anything in it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ctssl import __version__
from ctssl.cards import MOST_BYTES, read_card
from ctssl.config.evaluation import Target
from ctssl.errors import CohortError, WeightsError
from ctssl.evaluate.cloud import Cloud
from ctssl.evaluate.predictor import Predictor
from ctssl.files import write_whole
from ctssl.store.layout import check_seal, sealed

KIND = "ctssl probe"
USE = "research; not for clinical use"

_AGAIN = "fetch the file again, or make it again with the workflow"
_DIGITS = 12


def write_predictor(path: Path, probe: Predictor) -> None:
    """Nothing; writes the probe, sealed by a sha256. The order of scans does not tell who they are.

    Raises:
        CohortError: it is too long for a card.
    """
    order = np.lexsort((probe.errors, probe.folds))
    kept = {name: vars(probe)[name][order] for name in ("folds", "errors", "shares", "distances")}
    values: dict[str, Any] = {name: _plain(value) for name, value in (vars(probe) | kept).items()}
    values["cloud"] = {name: _plain(value) for name, value in vars(probe.cloud).items()}
    text = _text(probe.target, values)
    if len(text) > MOST_BYTES:
        raise CohortError(
            f"the probe of {probe.target.name} has {len(text) >> 20} MB, more than {MOST_BYTES >> 20}",
            f"with {len(probe.classes)} classes, {probe.weights.shape[2]} features, {probe.n} scans: join "
            "rare classes, or use fewer features",
        )
    write_whole(path, text)


def write_no_predictor(path: Path, target: Target, why: str) -> None:
    """Nothing; writes in place of a probe why there is none."""
    write_whole(path, _text(target, {"note": why}))


def read_predictor(path: Path) -> Predictor:
    """The probe that `write_predictor` wrote.

    Raises:
        WeightsError: the file is not there, is none of these, or was changed.
    """
    try:
        card = read_card(path)
        check_seal(card)
        if card.get("kind") != KIND:
            raise ValueError(f"it is a {str(card.get('kind'))[:40]!r}, not a {KIND!r}")
        if "weights" not in card:
            raise ValueError(str(card.get("note")))
        return _checked(card)
    except (OverflowError, FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        said = "its target is none" if isinstance(error, ValidationError) else said
        raise WeightsError(f"{path} holds no probe that can be used: {said}", _AGAIN) from error


def _text(target: Target, values: dict[str, Any]) -> bytes:
    """The file that says this of a target."""
    about = {"kind": KIND, "use": USE, "ctssl": __version__}
    card = sealed({**about, **values, "target": target.model_dump(mode="json")})
    return (json.dumps(card, allow_nan=False) + "\n").encode()


def _checked(card: dict[str, Any]) -> Predictor:
    """The probe of a card whose numbers fit together.

    Raises:
        ValueError, TypeError, KeyError: they do not.
    """
    target, classes = Target.model_validate(card["target"]), tuple(card["classes"])
    if not all(isinstance(name, str) for name in classes) or (target.task == "classify") != bool(classes):
        raise ValueError(f"its classes do not fit the task {target.task}")
    weights = _array(card, "weights", (None, max(len(classes), 1), None))
    models, outputs, width = weights.shape
    biases = np.array([[-np.inf if b is None else b for b in row] for row in card["biases"]], float)
    if biases.shape != (models, outputs) or np.isnan(biases).any() or not np.isfinite(biases.max(1)).all():
        raise ValueError("biases does not fit weights")
    folds = _array(card, "folds", (None,)).astype(int)
    errors, shares, distances = (_array(card, k, folds.shape) for k in ("errors", "shares", "distances"))
    if folds.size and (folds.min() < 0 or folds.max() >= models - 1):
        raise ValueError("folds names models that are not there")
    return Predictor(
        target=target,
        classes=classes,
        n=int(card["n"]),
        subjects=int(card["subjects"]),
        weights=weights,
        biases=biases,
        folds=folds,
        errors=errors,
        shares=shares,
        distances=distances,
        cloud=_cloud(card["cloud"], width),
        made_by=str(card["made_by"]),
        note=str(card["note"]),
    )


def _cloud(card: dict[str, Any], width: int) -> Cloud:
    """The cloud of a probe that takes so many features.

    Raises:
        ValueError, TypeError, KeyError: its numbers do not fit together.
    """
    axes, mean = _array(card, "axes", (None, width)), _array(card, "mean", (width,))
    scale, variances = _array(card, "scale", (width,)), _array(card, "variances", (len(axes),))
    rest = float(card["rest"])
    if not min(scale.min(), variances.min(initial=np.inf), rest) > 0:
        raise ValueError("a spread in it is not above 0")
    return Cloud(mean, scale, axes, variances, rest)


def _plain(value: Any) -> Any:
    """Lists of lists for arrays, with None for what is not finite."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
    return value


def _array(card: dict[str, Any], key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """The finite numbers under a key; an axis of None has any length.

    Raises:
        ValueError, TypeError, KeyError: they are not there, or of another shape.
    """
    found = np.array(card[key], dtype=float)
    if not found.size and len(shape) == 2:  # JSON keeps no width of nothing
        found = found.reshape(0, shape[1] or 0)
    wanted = tuple(there if any_ is None else any_ for any_, there in zip(shape, found.shape, strict=False))
    if found.ndim != len(shape) or found.shape != wanted or not np.isfinite(found).all():
        raise ValueError(f"{key} has shape {found.shape}, or a value that is no number")
    return found
