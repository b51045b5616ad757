"""The cost of preparation is measured on a scan small enough for seconds."""

import pytest

from ctssl import config
from ctssl.bench import prepare as bench


@pytest.mark.xdist_group("registration")
def test_each_job_is_measured(tmp_path, monkeypatch):
    overlay = tmp_path / "coarse.yaml"
    overlay.write_text(
        "registration: {spacing_mm: 12.0, syn_iterations: [20, 10]}\n"
        "atlas: {spacing_mm: 4.0, pitch_mm: 80.0}\ngraph: {rho_mm: 100.0}\n"
    )
    monkeypatch.setattr(bench, "read", lambda path: config.read(overlay, path))
    values = bench.bench_prepare((96, 96, 80), ".nii", seed=7)
    assert list(values["steps"]) == ["volume", "register", "store"]
    for step in values["steps"].values():
        assert step["seconds"] > 0.2
        assert 30 < step["peak_mb"] < 4000
        assert step["written_mb"] > 0
    assert values["image_mb"] == pytest.approx(96 * 96 * 80 * 2 / 1e6, abs=0.06)
    assert values["steps"]["volume"]["read_mb"] > values["image_mb"]
    assert values["steps"]["volume"]["read_mb"] < 2 * values["image_mb"] + 60  # once, and libraries
    assert values["seconds"] == pytest.approx(
        sum(step["seconds"] for step in values["steps"].values()), abs=0.1
    )
    assert values["numbers"]["dice_right"] > 0.9
