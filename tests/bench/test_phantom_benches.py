"""The benchmarks that use phantoms measure what they say, on inputs small enough for seconds."""

import json
from pathlib import Path

import pytest

from ctssl import config
from ctssl.bench import register as bench
from ctssl.bench.phantom import bench_phantom
from ctssl.bench.report import report

KEYS = {
    *("seconds", "threads", "dice_right", "dice_left", "min_jacobian", "affine_dice_right"),
    *("affine_dice_left", "landmark_error_mm_mean", "landmark_error_mm_p95"),
    "affine_landmark_error_mm_mean",
}


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    overlay = tmp_path / "coarse.yaml"
    overlay.write_text(
        "registration: {spacing_mm: 12.0, syn_iterations: [20, 10]}\n"
        "atlas: {pitch_mm: 50.0}\ngraph: {rho_mm: 60.0}\n"
    )
    monkeypatch.setattr(bench, "read", lambda: config.read(overlay))


@pytest.mark.xdist_group("registration")
def test_registration_is_measured_against_the_truth(coarse, tmp_path):
    report(bench.bench_register(scans=1, seed=7, spacing_mm=6.0), tmp_path / "out.json")
    values = json.loads((tmp_path / "out.json").read_text())
    assert values.keys() >= KEYS
    assert values["affine_dice_right"] < values["dice_right"] < 1
    assert values["affine_dice_left"] < values["dice_left"] < 1
    assert 1 < values["landmark_error_mm_mean"] < values["landmark_error_mm_p95"] < 30
    assert values["landmark_error_mm_mean"] < 15
    assert 0 < values["min_jacobian"] < 1
    assert values["threads"] == 1
    assert values["scans"] == 1


def test_phantoms_are_timed_and_their_truth_is_exact():
    values = bench_phantom(scans=1, spacing_mm=5.0, slice_mm=5.0)
    assert values["inverse_error_mm_max"] < 1e-5
    assert {"atlas_seconds", "scan_seconds", "oracle_seconds", "peak_memory_mb"} <= values.keys()
    assert values["landmarks"] > 2
    assert values["branch_points"] > 1000


@pytest.mark.xdist_group("registration")
def test_a_hard_case_is_measured_over_what_it_shows(coarse):
    values = bench.bench_register(scans=1, seed=7, spacing_mm=6.0, hard=("one-lung-right",))
    assert 0.2 < values["shown"] < 0.7
    assert values["wrongly_shown"] == 0
    assert "dice_right" not in values
    assert 0.8 < values["dice_left"] < 1
    assert values["branch_error_mm_mean"] < 15
