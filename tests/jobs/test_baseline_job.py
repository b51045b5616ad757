"""The jobs baseline and probe, one after the other, on small stores whose density is the label."""

import csv

import numpy as np
import pandas as pd
import pytest
from evaluate.small_stores import make_store

from ctssl import config, settings, settings_probes
from ctssl.evaluate.probes import read_probe
from ctssl.jobs import probes, study
from ctssl.manifest import read_manifest
from ctssl.prepare.densitometry import MEASURES
from ctssl.store.reader import open_store

SCANS = 16
OPTIONS = {"least_patches": 4}
BASELINES = [
    *("laa-950", "densitometry"),
    {"name": "bag-of-features", "options": OPTIONS | {"words": 6}},
    {"name": "divergence", "options": OPTIONS | {"neighbours": 2, "components": 4}},
    {"name": "texture", "options": OPTIONS},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A results folder with stores, scans.csv and folds; config and manifest. Never change it."""
    folder = tmp_path_factory.mktemp("study")
    out = folder / "results"
    rows, table = [], []
    for number in range(SCANS):
        scan, mean = f"s{number:02}", -950 + 15 * number
        make_store(out / "stores" / scan, scan, mean=mean, measures=dict.fromkeys(MEASURES, mean / 10))
        digest = open_store(out / "stores" / scan).card["digest"]
        rows.append({"scan": scan, "subject": f"p{number}", "fev1": 40 + 3 * number})
        table.append({"scan": scan, "subject": f"p{number}", "store": digest, "path": f"stores/{scan}"})
    write(folder / "scans.csv", rows)
    write(out / "scans.csv", table)
    write(out / "folds.csv", [{"subject": f"p{n}", "fold": n % 4} for n in range(SCANS)])
    values = config.read().model_dump(mode="json") | {
        "manifest": str(folder / "scans.csv"),
        "baselines": BASELINES,
        "prepared": str(out),
    }
    values["evaluation"] |= {"targets": [{"name": "fev1", "column": "fev1", "task": "regress"}]}
    chosen = config.check(values)
    return out, chosen, read_manifest(chosen.manifest, images=False)


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("name", ["laa-950", "densitometry", "bag-of-features", "divergence", "texture"])
def test_every_baseline_predicts_what_its_features_hold(made, tmp_path, name):
    if name == "texture":
        pytest.importorskip("mahotas")
    out, chosen, manifest = made
    features = tmp_path / f"{name}.parquet"
    study.baseline(settings.baseline(chosen, manifest, name), out / "scans.csv", features)
    assert set(pd.read_parquet(features).scan) == set(manifest.scans)
    text = settings_probes.probe(chosen, manifest, "fev1")
    final = tmp_path / "final" / "fev1.json"
    probes.probe(text, features, [out / "folds.csv"], tmp_path / "fev1.json", final)
    result = read_probe(tmp_path / "fev1.json")
    assert (result["n"], result["subjects"]) == (SCANS, SCANS)
    assert result["metrics"]["spearman"]["value"] > 0.5
    assert np.isfinite(result["metrics"]["r2"]["value"])
