"""What is measured on a prepared scan, and what that says about it."""

import math
from collections.abc import Iterator
from typing import Any

from ctssl.config.prepare import Quality

# A number -> the limit that it must not pass (after warn_ and exclude_), and its words.
_LOW = {
    "dice_right": ("dice", "Dice of the right lung"),
    "dice_left": ("dice", "Dice of the left lung"),
    "min_jacobian": ("min_jacobian", "minimum Jacobian"),
    "valid_fraction": ("valid_fraction", "share of valid landmarks"),
}
_HIGH = {
    "inverse_mm_p95": ("inverse_mm", "way there and back in mm (95th percentile)"),
    "slice_mm": ("slice_mm", "largest spacing of the scan in mm"),
}
_RANGES = {
    "lung_l": ("lung_range_l", "volume of both lungs in litres"),
    "left_right_ratio": ("left_right_range", "left lung / right lung"),
}


def derived(numbers: dict[str, Any]) -> dict[str, float | None]:
    """lung_l, left_right_ratio, valid_fraction and slice_mm; None where it was not measured.

    Args:
        numbers: as for `verdict`.
    """
    right, left, valid, landmarks = (known(numbers, k) for k in ("right_l", "left_l", "valid", "landmarks"))
    spacing = [s for s in numbers.get("native_spacing_mm") or () if s is not None and math.isfinite(s)]
    lungs = (right, left) if right is not None and left is not None else None
    return {
        "lung_l": sum(lungs) if lungs else None,
        "left_right_ratio": left / right if left and right else None,  # of two lungs that are there
        "valid_fraction": valid / landmarks if valid is not None and landmarks else None,
        "slice_mm": max(spacing) if spacing else None,
    }


def verdict(numbers: dict[str, Any], limits: Quality) -> tuple[str, list[str]]:
    """('pass', 'warn' or 'exclude', reasons) for a scan that has a store; the gravest reasons first.

    What was not measured (missing, None, NaN) gives no reason. Limits themselves are allowed.

    Args:
        numbers: right_l, left_l, native_spacing_mm (x, y, z), mask_doubts (sentences) of the volume;
            dice_right, dice_left, min_jacobian, inverse_mm_p95, cut (names of faces, joined by spaces),
            missing (right, left or nothing) of the registration; landmarks, valid, edges.
        limits: section quality of the config.
    """
    found = [*_passed_limits(numbers | derived(numbers), limits), *_observations(numbers)]
    grave = [reason for level, reason in found if level == "exclude"]
    reasons = grave + [reason for level, reason in found if level == "warn"]
    return "exclude" if grave else "warn" if reasons else "pass", reasons


def known(numbers: dict[str, Any], key: str) -> float | None:
    """A measured number; None when there is none, or NaN."""
    value = numbers.get(key)
    return None if value is None or math.isnan(value) else float(value)


def _passed_limits(numbers: dict[str, Any], limits: Quality) -> Iterator[tuple[str, str]]:
    """(level, reason) of every limit that a number passes; of two limits only the graver."""
    given = limits.model_dump()
    for levels, sign, word in ((_LOW, -1, "below"), (_HIGH, 1, "above")):
        for key, (limit, what) in levels.items():
            value = known(numbers, key)
            for level in ("exclude", "warn"):
                bound = given[f"{level}_{limit}"]
                if value is not None and bound is not None and sign * value > sign * bound:
                    yield level, f"{what} {value:.4g} is {word} {bound:g} ({level}_{limit})"
                    break
    for key, (limit, what) in _RANGES.items():
        value, bounds = known(numbers, key), given[f"warn_{limit}"]
        if value is not None and bounds is not None and not bounds[0] <= value <= bounds[1]:
            yield "warn", f"{what} {value:.4g} is outside {bounds[0]:g} to {bounds[1]:g} (warn_{limit})"


def _observations(numbers: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(level, reason) of what needs no limit."""
    if numbers.get("missing"):
        yield "warn", f"the {numbers['missing']} lung is missing"
    if numbers.get("cut"):
        yield "warn", f"the field of view cuts the lungs: {', '.join(numbers['cut'].split())}"
    for doubt in numbers.get("mask_doubts") or ():
        yield "warn", f"mask: {doubt}"
    edges, valid = known(numbers, "edges"), known(numbers, "valid")
    if edges is not None and valid is not None and edges < valid / 2:  # less than one neighbour a landmark
        yield "warn", f"only {edges:g} edges join {valid:g} landmarks: see config, graph"
