import math
from itertools import pairwise

import pytest

from ctssl.bench.methods import bench_methods, trained_methods
from ctssl.config.methods import OPTIONS


def test_all_but_frozen_methods_are_measured():
    assert set(OPTIONS) - set(trained_methods()) == {name for name, o in OPTIONS.items() if o.frozen}


@pytest.mark.slow
def test_a_method_is_measured_by_itself():
    found = bench_methods("cpu", ["autoencoder"], scans=4, steps=1)["methods"]["autoencoder"]
    phase = found["phases"]["patch"]
    # the trunk: convolutions of 27 weights with bias and two numbers of batch norm; then the unused head
    widths = [1, 8, 8, *[16] * 3, *[32] * 3, *[64] * 3, 128, 128]
    trunk = sum(27 * a * b + 3 * b for a, b in pairwise(widths))
    assert found["features"] == 128
    assert phase["trained_parameters"] > trunk
    assert found["parameters"] >= trunk
    assert (phase["unit"], phase["samples_per_step"]) == ("patch", 4)
    assert math.isclose(phase["s_per_1000_samples"], 1000 * phase["s_per_step"] / 4, rel_tol=0.01)
    assert found["peak_memory_mb"] > 100
    assert found["embed_s_per_scan"] > 0
