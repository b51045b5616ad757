import pytest

from ctssl import config
from ctssl.config.prepare import Quality
from ctssl.prepare.quality import derived, verdict

LIMITS = Quality(
    warn_dice=0.95,
    exclude_dice=0.7,
    warn_min_jacobian=0.05,
    exclude_min_jacobian=0.0,
    warn_inverse_mm=2.0,
    exclude_inverse_mm=8.0,
    warn_valid_fraction=0.9,
    exclude_valid_fraction=0.25,
    warn_slice_mm=5.0,
    exclude_slice_mm=10.0,
    warn_lung_range_l=(1.5, 10.0),
    warn_left_right_range=(0.5, 1.25),
)
GOOD = {"right_l": 2.6, "left_l": 2.2, "native_spacing_mm": [0.7, 0.7, 1.5], "mask_doubts": [], "repairs": []}
GOOD |= {"dice_right": 0.98, "dice_left": 0.97, "min_jacobian": 0.3, "inverse_mm_p95": 0.8}
GOOD |= {"cut": "", "missing": "", "landmarks": 100, "valid": 98, "edges": 240, "rung": "centre of mass"}


def test_a_good_scan_passes_without_reasons():
    assert verdict(GOOD, LIMITS) == ("pass", [])


def test_what_was_not_measured_gives_no_reason():
    assert verdict({}, LIMITS) == ("pass", [])
    assert verdict(dict.fromkeys(GOOD), LIMITS) == ("pass", [])
    numbers = {key: float("nan") for key, value in GOOD.items() if isinstance(value, float | int)}
    assert verdict(numbers, LIMITS) == ("pass", [])


def test_a_limit_of_null_is_no_limit():
    limits = Quality(**dict.fromkeys(Quality.model_fields))
    bad = {
        "dice_right": 0.0,
        "min_jacobian": -5.0,
        "valid": 90,
        "landmarks": 5000,
        "right_l": 0.1,
        "left_l": 99,
    }
    assert verdict(GOOD | bad | {"inverse_mm_p95": 99.0, "native_spacing_mm": [1, 1, 40]}, limits) == (
        "pass",
        [],
    )


@pytest.mark.parametrize(
    ("key", "on_it", "beyond", "level", "words"),
    [
        ("dice_right", 0.95, 0.9499, "warn", ("right lung 0.9499", "below 0.95", "warn_dice")),
        ("dice_left", 0.95, 0.94, "warn", ("left lung 0.94", "below 0.95", "warn_dice")),
        ("dice_left", 0.7, 0.69, "exclude", ("left lung 0.69", "below 0.7", "exclude_dice")),
        ("min_jacobian", 0.05, 0.04, "warn", ("Jacobian 0.04", "below 0.05", "warn_min_jacobian")),
        ("min_jacobian", 0.0, -0.01, "exclude", ("Jacobian -0.01", "below 0", "exclude_min_jacobian")),
        ("inverse_mm_p95", 2.0, 2.1, "warn", ("2.1", "above 2", "warn_inverse_mm")),
        ("inverse_mm_p95", 8.0, 8.1, "exclude", ("8.1", "above 8", "exclude_inverse_mm")),
        ("valid", 90, 89, "warn", ("valid landmarks 0.89", "below 0.9", "warn_valid_fraction")),
        ("valid", 25, 24, "exclude", ("0.24", "below 0.25", "exclude_valid_fraction")),
        (
            "native_spacing_mm",
            [0.6, 0.6, 5.0],
            [0.6, 0.6, 5.01],
            "warn",
            ("5.01", "above 5", "warn_slice_mm"),
        ),
        (
            "native_spacing_mm",
            [10.0, 1, 1],
            [10.1, 1, 1],
            "exclude",
            ("10.1", "above 10", "exclude_slice_mm"),
        ),
    ],
)
def test_each_limit_holds_up_to_its_border(key, on_it, beyond, level, words):
    judged, reasons = verdict(GOOD | {key: beyond}, LIMITS)
    assert judged == level
    assert len(reasons) == 1
    assert [word for word in words if word not in reasons[0]] == []
    weaker = {"warn": "pass", "exclude": "warn"}[level]
    assert verdict(GOOD | {key: on_it}, LIMITS)[0] == weaker, "the limit itself is allowed"


@pytest.mark.parametrize(
    ("right", "left", "word"),
    [
        (0.8, 0.7, None),
        (0.8, 0.69, "1.49 is outside 1.5 to 10 (warn_lung_range_l)"),
        (5.0, 5.0, None),
        (5.1, 5.0, "10.1 is outside 1.5 to 10"),
        (4.0, 2.0, None),
        (4.0, 1.96, "left lung / right lung 0.49 is outside 0.5 to 1.25 (warn_left_right_range)"),
        (4.0, 5.0, None),
        (2.0, 2.52, "1.26 is outside"),
    ],
)
def test_volumes_outside_their_ranges_warn(right, left, word):
    judged, reasons = verdict(GOOD | {"right_l": right, "left_l": left}, LIMITS)
    assert judged == ("warn" if word else "pass")
    assert [word in reason for reason in reasons] == ([True] if word else [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cut": "bottom left"}, "the field of view cuts the lungs: bottom, left"),
        ({"missing": "left", "left_l": 0.0, "dice_left": None}, "the left lung is missing"),
        ({"mask_doubts": ["much of it is dense"]}, "mask: much of it is dense"),
        ({"edges": 48}, "only 48 edges join 98 landmarks: see config, graph"),
    ],
)
def test_each_observation_warns(change, reason):
    assert verdict(GOOD | change, LIMITS) == ("warn", [reason])


def test_a_certain_repair_is_no_reason():
    assert verdict(GOOD | {"repairs": ["12 % of the voxels hold -2000, padding"]}, LIMITS) == ("pass", [])


def test_the_gravest_reason_comes_first_and_none_is_lost():
    bad = {"min_jacobian": 0.01, "cut": "top", "dice_left": 0.5, "valid": 10, "edges": 30}
    judged, reasons = verdict(GOOD | bad, LIMITS)
    assert judged == "exclude"
    assert ["exclude_" in reason for reason in reasons] == [True, True, False, False]


def test_derived_numbers_by_hand():
    assert derived(GOOD) == {
        "lung_l": pytest.approx(4.8),
        "left_right_ratio": pytest.approx(2.2 / 2.6),
        "valid_fraction": 0.98,
        "slice_mm": 1.5,
    }
    assert set(derived({}).values()) == {None}
    assert derived({"right_l": 2.0, "left_l": 0.0})["left_right_ratio"] is None, "a missing lung has no ratio"


@pytest.mark.parametrize("key", ["warn_lung_range_l", "warn_left_right_range"])
def test_a_range_must_rise(key):
    with pytest.raises(ValueError, match="low, high"):
        Quality(**LIMITS.model_dump() | {key: (2.0, 2.0)})


def test_the_defaults_live_with_real_scans():
    limits = config.read().quality
    lung2 = {"right_l": 2.377, "left_l": 1.614, "native_spacing_mm": [0.627, 0.627, 5.0]}
    lung2 |= {"dice_right": 0.9786, "dice_left": 0.9738, "min_jacobian": 0.1902, "inverse_mm_p95": 1.1}
    lung2 |= {"landmarks": 62, "valid": 62, "edges": 123, "cut": "", "missing": ""}
    assert verdict(lung2, limits) == ("pass", [])
    lung1 = lung2 | {"right_l": 1.763, "left_l": 1.106, "cut": "bottom", "valid": 38, "edges": 70}
    assert verdict(lung1, limits)[0] == "warn"
