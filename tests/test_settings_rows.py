"""What settings say of rows: on what each was pretrained, and what of a target reaches which stage."""

import csv
import json

import pytest
import yaml

from ctssl import config, settings, settings_tables
from ctssl.manifest import read_manifest

RUNS = [
    {"name": "learnt", "method": "context-aware"},
    {"name": "inner", "method": "context-aware", "pretrained_on": "folds"},
    {"name": "given", "method": "context-aware", "weights": "a.safetensors"},
    {"name": "random", "method": "untrained"},
    {"name": "supervised", "method": "subject2vec"},
]


def study(folder, **target):
    """Config and manifest of a study with one target of classes."""
    with (folder / "scans.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["scan", "image", "grade"], ["a", "a.nii", "x"], ["b", "b.nii", "y"]])
    target = {"name": "grade", "column": "grade", "task": "classify", **target}
    own = {"manifest": str(folder / "scans.csv"), "runs": RUNS, "evaluation": {"targets": [target]}}
    (folder / "study.yaml").write_text(yaml.safe_dump(own))
    chosen = config.read(folder / "study.yaml")
    return chosen, read_manifest(chosen.manifest)


def test_of_each_row_is_told_how_it_was_pretrained(tmp_path):
    """A row inside the folds that were told as one of all scans would be called transductive."""
    chosen, _ = study(tmp_path)
    told = json.loads(settings_tables.tables(chosen))["pretrained"]
    assert {row: how for row, (how, _) in told.items()} == {
        **{"learnt": "all", "inner": "folds", "given": "given", "random": "nothing"},
        **{"supervised": "nothing", "LAA-950": "nothing"},
    }
    assert told["given"][1] == "a.safetensors"


@pytest.mark.parametrize("ordered", [True, False])
def test_an_order_of_classes_reaches_what_joins_folds_and_trains_nothing(tmp_path, ordered):
    before, after = study(tmp_path), study(tmp_path, ordered=ordered)
    joined = [settings.join(*of, "supervised", "grade") for of in (before, after)]
    assert "ordered" not in json.loads(joined[0])["target"]
    assert json.loads(joined[1])["target"]["ordered"] is ordered
    trained = [settings.fold(*of, "supervised", "grade") for of in (before, after)]
    assert trained[0] == trained[1]
