"""The jobs pairs, curve and curves after baselines and probes, a time to an event among the targets."""

import csv

import numpy as np
import pandas as pd
import pytest
from evaluate.small_stores import make_store

from ctssl import config, settings, settings_probes, settings_scores
from ctssl.errors import ConfigError, ManifestError
from ctssl.evaluate import metrics, pairs
from ctssl.evaluate.probes import read_probe
from ctssl.jobs import probes, scores, study
from ctssl.jobs.rows import read_rows
from ctssl.manifest import read_manifest
from ctssl.prepare.densitometry import MEASURES
from ctssl.store.reader import open_store

pytest.importorskip("sksurv")
SCANS = 18
NAMES = ("laa-950", "majority", "clinical")
EVALUATION = {
    "folds": 3,
    "label_shares": [0.4, 1],
    "label_draws": 2,
    "reference": "majority",
    "targets": [
        {"name": "fev1", "column": "fev1", "task": "regress"},
        {"name": "gold", "column": "gold", "task": "classify"},
        {"name": "death", "column": "days", "task": "survive", "event": "died"},
    ],
}


@pytest.fixture(scope="module", autouse=True)
def _few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "RESAMPLES", 100)
        patch.setattr(pairs, "RESAMPLES", 999)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Config, manifest, and a results folder with all probes of three baselines. Never change it."""
    folder = tmp_path_factory.mktemp("study")
    out = folder / "results"
    rows, table = [], []
    rng = np.random.default_rng(0)
    for number in range(SCANS):
        scan, mean = f"s{number:02}", -950 + 10 * number
        make_store(out / "stores" / scan, scan, mean=mean, measures=dict.fromkeys(MEASURES, mean / 10))
        digest = open_store(out / "stores" / scan).card["digest"]
        rows.append(
            {
                **{"scan": scan, "subject": f"p{number}", "fev1": 40 + 3 * number + rng.normal()},
                **{"gold": f"g{number // 6}", "days": 100 + 50 * number, "died": int(number % 4 > 0)},
                **{"age": "" if number == 3 else 80 - number + 3 * rng.normal(), "sex": "fm"[number % 2]},
            }
        )
        table.append({"scan": scan, "subject": f"p{number}", "store": digest, "path": f"stores/{scan}"})
    write(folder / "scans.csv", rows)
    write(out / "scans.csv", table)
    write(out / "folds.csv", [{"subject": f"p{n}", "fold": n % 3} for n in range(SCANS)])
    values = config.read().model_dump(mode="json") | {
        "manifest": str(folder / "scans.csv"),
        "prepared": str(out),
        "baselines": ["laa-950", "majority", {"name": "clinical", "options": {"columns": ["age", "sex"]}}],
    }
    values["evaluation"] |= EVALUATION
    chosen = config.check(values)
    manifest = read_manifest(chosen.manifest, images=False)
    for name in NAMES:
        features = out / "features" / f"{name}_seed0_all.parquet"
        study.baseline(settings.baseline(chosen, manifest, name), out / "scans.csv", features)
        for target in ("fev1", "gold", "death"):
            text = settings_probes.probe(chosen, manifest, target)
            ends = [out / kind / f"{name}_seed0_all" / f"{target}.json" for kind in ("probes", "predictions")]
            ends[1].parent.mkdir(parents=True, exist_ok=True)
            probes.probe(text, features, [out / "folds.csv"], *ends)
    return chosen, manifest, out


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_all_rows_are_compared_with_the_reference_in_all_targets(made, tmp_path):
    chosen, _, out = made
    files = sorted((out / "probes").glob("*/*.json"))
    scores.pairs(settings_scores.pairs(chosen), files, tmp_path / "pairs.csv", tmp_path / "pairs.md")
    table = pd.read_csv(tmp_path / "pairs.csv").set_index(["target", "row"])
    assert set(table.reference) == {"Majority class or mean"}
    assert len(table) == 6
    assert (table.subjects == SCANS).all()
    for target, metric in {"fev1": "r2", "gold": "accuracy", "death": "concordance"}.items():
        line = table.loc[(target, "LAA-950")]
        assert line.metric == metric
        told = read_probe(out / "probes" / "laa-950_seed0_all" / f"{target}.json")
        assert line["value"] == pytest.approx(told["metrics"][metric]["value"])
        assert line.low > 0
        assert line.p < 0.05
        assert line.p_holm >= line.p
    assert table.loc[("death", "LAA-950")].reference_value == 0.5


def test_a_time_to_an_event_has_risks_and_no_final_probe(made):
    _, _, out = made
    told = read_probe(out / "probes" / "laa-950_seed0_all" / "death.json")
    assert told["metrics"]["concordance"]["value"] > 0.9
    assert told["classes"] == {"event": 13, "censored": 5}
    assert told["majority"] is None
    final = (out / "predictions" / "laa-950_seed0_all" / "death.json").read_text()
    assert "no probe is kept" in final


def test_what_is_known_without_a_scan_predicts_what_it_tells(made):
    _, _, out = made
    told = read_probe(out / "probes" / "clinical_seed0_all" / "fev1.json")
    assert 0.3 < told["metrics"]["r2"]["value"] < 1
    nothing = read_probe(out / "probes" / "majority_seed0_all" / "fev1.json")
    assert nothing["metrics"]["r2"]["value"] == pytest.approx(0)


def test_curves_become_a_table_and_a_figure(made, tmp_path):
    chosen, manifest, out = made
    files = []
    for name in ("laa-950", "majority", "clinical"):
        for target in ("fev1", "gold"):
            files.append(tmp_path / "curves" / f"{name}_seed0_all" / f"{target}.json")
            text = settings_scores.curve(chosen, manifest, target)
            features = out / "features" / f"{name}_seed0_all.parquet"
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            scores.curve(text, features, out / "folds.csv", files[-1])
    text = settings_scores.curves(chosen)
    scores.curves(text, files, tmp_path / "tables" / "curves.csv", tmp_path / "figures" / "curves.png")
    table = pd.read_csv(tmp_path / "tables" / "curves.csv")
    assert set(table.target) == {"fev1", "gold"}
    [last] = table[(table.row == "LAA-950") & (table.metric == "r2") & (table.share == 1)].itertuples()
    told = read_probe(out / "probes" / "laa-950_seed0_all" / "fev1.json")
    assert last.value == pytest.approx(told["metrics"]["r2"]["value"])
    assert (tmp_path / "figures" / "curves.png").stat().st_size > 1000


def test_an_edited_event_or_clinical_value_changes_settings_and_stops_a_job(made, tmp_path):
    chosen, manifest, out = made
    before = settings_probes.probe(chosen, manifest, "death"), settings.baseline(chosen, manifest, "clinical")
    rows = read_rows(chosen.manifest)
    rows[0]["died"], rows[0]["age"] = "1", "99"
    write(tmp_path / "scans.csv", rows)
    other = chosen.model_copy(update={"manifest": tmp_path / "scans.csv"})
    changed = read_manifest(other.manifest, images=False)
    after = settings_probes.probe(other, changed, "death"), settings.baseline(other, changed, "clinical")
    moved = [text.replace(str(chosen.manifest), str(other.manifest)) for text in before]
    assert moved[0] != after[0]
    assert moved[1] != after[1]
    assert settings_probes.probe(other, changed, "fev1") == settings_probes.probe(
        chosen, manifest, "fev1"
    ).replace(str(chosen.manifest), str(other.manifest))
    features = out / "features" / "laa-950_seed0_all.parquet"
    with pytest.raises(ManifestError, match="changed since"):
        probes.probe(moved[0], features, [out / "folds.csv"], tmp_path / "a.json", None)
    with pytest.raises(ManifestError, match="changed since"):
        study.baseline(moved[1], out / "scans.csv", tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"reference": "lab-950"}, "did you mean 'laa-950'"),
        ({"label_shares": [0.5, 0.1]}, "shares must rise"),
        ({"label_shares": [0.0, 0.1]}, "greater than 0"),
    ],
)
def test_keys_that_make_no_sense_are_refused(made, values, words):
    chosen, _, _ = made
    given = chosen.model_dump(mode="json", serialize_as_any=True)
    given["evaluation"] |= values
    with pytest.raises(ConfigError, match=words):
        config.check(given)


def test_a_network_is_not_trained_on_times(made):
    chosen, _, _ = made
    given = chosen.model_dump(mode="json", serialize_as_any=True)
    given["runs"] = [{"name": "cnn", "method": "slice-cnn"}]
    assert config.check(given).targets_of("cnn") == ["fev1", "gold"]
    given["runs"][0]["targets"] = ["death"]
    with pytest.raises(ConfigError, match="cannot be trained for task survive"):
        config.check(given)
