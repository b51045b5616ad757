import math
from itertools import pairwise

import pytest

from ctssl.bench.methods import bench_methods
from ctssl.config.methods import OPTIONS


@pytest.fixture(scope="module")
def measured():
    """What methods cost on two scans: one of patches, one that needs labels and whole lungs, one frozen."""
    names = ["autoencoder", "cnn-3d", "medicalnet"]
    return bench_methods("cpu", names, scans=2, steps=1, passes=1)["methods"]


@pytest.mark.slow
def test_a_method_is_measured_by_itself(measured):
    found = measured["autoencoder"]
    phase = found["phases"]["patch"]
    # the trunk: convolutions of 27 weights with bias and two numbers of batch norm; then the unused head
    widths = [1, 8, 8, *[16] * 3, *[32] * 3, *[64] * 3, 128, 128]
    trunk = sum(27 * a * b + 3 * b for a, b in pairwise(widths))
    assert found["features"] == 128
    assert phase["trained_parameters"] > trunk
    assert found["parameters"] >= trunk
    assert (phase["unit"], phase["samples_per_step"]) == ("patch", 2)
    assert math.isclose(phase["s_per_1000_samples"], 1000 * phase["s_per_step"] / 2, rel_tol=0.01)
    assert found["peak_memory_mb"] > 100
    assert found["embed_s_per_scan"] > 0


@pytest.mark.slow
def test_a_supervised_method_is_measured_on_labels(measured):
    found = measured["cnn-3d"]
    [(name, phase)] = found["phases"].items()
    assert (name, phase["unit"], phase["samples_per_step"]) == ("labels", "volume", 2)
    assert found["features"] == OPTIONS["cnn-3d"]().feature_size
    assert 0 < phase["trained_parameters"] <= found["parameters"]
    assert math.isclose(phase["s_per_1000_samples"], 1000 * phase["s_per_step"] / 2, rel_tol=0.01)
    assert found["embed_s_per_scan"] > 0


@pytest.mark.slow
def test_nothing_of_a_frozen_network_is_trained(measured):
    found = measured["medicalnet"]
    assert found["phases"] == {}
    assert found["features"] > 0
    assert found["embed_s_per_scan"] > 0
