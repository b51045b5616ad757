import numpy as np
import pytest

from ctssl.bench import store as bench
from ctssl.store.layout import StoreArrays

KEYS = (
    *("random_patches_per_s", "zarr_python_patches_per_s", "memmap_patches_per_s", "scan_reads_per_s"),
    *("open_stores_per_s", "packed_patches_per_s"),
)


def test_every_reader_is_measured_on_the_same_patches(monkeypatch, tmp_path):
    seen = []
    rate = bench._rate

    def checked(read, batches):
        seen.append(np.concatenate([read(*batch) for batch in batches[:2]]))
        return rate(read, batches)

    def small(count):
        rng = np.random.default_rng(0)
        hu = np.arange(7 * 8**3).reshape(7, 8, 8, 8) % 1000
        none = np.empty((0, 2))
        return [StoreArrays(hu + i, np.ones(7), rng.random((7, 3)), np.ones(7), none) for i in range(count)]

    monkeypatch.setattr(bench, "LANDMARKS", 7)
    monkeypatch.setattr(bench, "BATCH", 5)
    monkeypatch.setattr(bench, "OPENED", 3)
    monkeypatch.setattr(bench, "_phantoms", small)
    monkeypatch.setattr(bench, "_rate", checked)
    values = bench.bench_store(6, 1, tmp_path)
    assert len(seen) == 5
    for one in seen[1:]:
        np.testing.assert_array_equal(one, seen[0])
    assert all(values[key] > 0 for key in (*KEYS, "bytes_ratio", "cpus"))
    assert values["times_zarr_python"] == pytest.approx(
        values["random_patches_per_s"] / values["zarr_python_patches_per_s"], abs=0.01
    )
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.slow
def test_phantom_patches_take_at_most_six_tenths_of_their_bytes(tmp_path):
    values = bench.bench_store(4, 1, tmp_path)
    assert 0.3 < values["bytes_ratio"] <= 0.6
    assert 0.3 < values["packed_bytes_ratio"] <= 0.6
    assert (values["scans"], values["landmarks"]) == (4, 581)
