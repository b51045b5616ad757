"""The final probe of a job: what is written where there is none to be had."""

import pandas as pd
import pytest
from evaluate.test_predictor import split
from evaluate.test_probes import NUMBER, numbers

from ctssl.errors import WeightsError
from ctssl.evaluate import probe_file
from ctssl.evaluate.cases import Cases
from ctssl.jobs.predict import write_final


def test_a_probe_that_is_too_long_for_its_file_costs_no_prediction(tmp_path, monkeypatch, capsys):
    table, labels, _, folds = split(numbers)
    monkeypatch.setattr(probe_file, "MOST_BYTES", 1000)
    asked = table[~table.scan.isin(labels.index)]
    write_final(tmp_path / "a.json", Cases(table, labels), asked, folds, NUMBER)
    assert len(pd.read_csv(tmp_path / "a.csv")) == len(table) - len(labels)
    assert "more than" in capsys.readouterr().err
    with pytest.raises(WeightsError, match="more than"):
        probe_file.read_predictor(tmp_path / "a.json")
