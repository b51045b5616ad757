from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctssl.errors import StoreError
from ctssl.evaluate.baselines import write_laa950
from ctssl.store.reader import Store


def store(scan, measures):
    none = np.zeros(0)
    return Store(scan, Path(scan), {"measures": measures}, none, none, none, none, None)


def test_the_table_has_the_measures_of_the_cards(tmp_path):
    stores = [store("b", {"laa_950_percent": 12.5, "other": 1}), store("a", {"laa_950_percent": 0})]
    write_laa950(stores, ["q", "p"], tmp_path / "laa-950" / "features.parquet")
    table = pd.read_parquet(tmp_path / "laa-950" / "features.parquet")
    assert table.to_dict("list") == {"scan": ["b", "a"], "subject": ["q", "p"], "f000": [12.5, 0.0]}
    assert table.f000.dtype == np.float64


def test_a_card_without_the_measure_is_an_error(tmp_path):
    with pytest.raises(StoreError, match=r"store a .*laa_950_percent") as caught:
        write_laa950([store("a", {})], ["p"], tmp_path / "out.parquet")
    assert "run the workflow again" in caught.value.advice
    assert not (tmp_path / "out.parquet").exists()
