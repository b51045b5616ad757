"""docs/results/protocol.md shows what the workflow wrote, of all that its configs ask for."""

import json
import re

import pandas as pd
import pytest
from bench.protocol_page import RESULTS, TABLES, read

from ctssl import config
from ctssl.evaluate.tables_confounding import ABOUT

ROOT = RESULTS.parents[1]
PAGE = RESULTS / "protocol.md"
STUDIES = {"full": "protocol", "inside": "inside", "transfer": "transfer"}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_the_page_is_that_of_the_files(name, write_docs):
    text = PAGE.read_text()
    begin, end = f"<!-- table {name} -->\n", "<!-- end -->"
    assert text.count(begin) == 1
    before, rest = text.split(begin)
    shown, after = rest.split(end, 1)
    if write_docs:
        PAGE.write_text(before + begin + TABLES[name]() + "\n" + end + after)
    else:
        assert shown == TABLES[name]() + "\n", "`pytest THIS_FILE -n0 --write-docs` writes it"


def test_the_page_has_no_other_tables():
    text = PAGE.read_text()
    assert set(re.findall(r"<!-- table (.+) -->", text)) == set(TABLES)
    rest = re.sub(r"<!-- table .+? -->.*?<!-- end -->", "", text, flags=re.DOTALL)
    assert not re.findall(r"^\|.*", rest, re.MULTILINE)


def asked(file, left_out=lambda run: False):
    """The config, and every row and target that it asks for, in its order; without some runs."""
    study = config.read(ROOT / f"config/{file}.yaml")
    rows = [*(run for run in study.runs if not left_out(run)), *study.baselines]
    return study, [(row.title, target) for row in rows for target in study.targets_of(row.name)]


def found(table, *keys):
    """Every row and target of a table, in its order; a line each, and none without a value."""
    assert not table.duplicated(["row", "target", *keys]).any()
    assert table.value.notna().all()
    return list(dict.fromkeys(zip(table.row, table.target, strict=True)))


def no_features(run):
    return run.options.supervised or run.pretrained_on == "folds"


@pytest.mark.parametrize(("file", "folder"), STUDIES.items())
def test_every_run_and_baseline_has_all_targets(file, folder):
    assert found(read(f"{folder}/probes.csv")) == asked(file)[1]


def test_every_training_of_the_cohort_is_listed():
    study = config.read(ROOT / "config/full.yaml")
    table = pd.read_csv(RESULTS / "protocol/trainings.csv", index_col="run")
    assert list(table.index) == [run.name for run in study.runs if run.method != "untrained"]
    for run in study.runs:
        if run.options.supervised:
            assert table.trainings[run.name] == study.evaluation.folds * len(study.targets_of(run.name))


@pytest.mark.parametrize(
    ("file", "table", "reference"),
    [
        ("full", "protocol/pairs.csv", None),
        ("full", "protocol/pairs-clinical.csv", "clinical"),
        ("inside", "inside/pairs.csv", None),
        ("inside", "inside/pairs-pcrl.csv", "pcrl"),
        ("transfer", "transfer/pairs.csv", None),
    ],
)
def test_every_row_is_compared_with_the_reference(file, table, reference):
    study, expected = asked(file)
    name = reference or study.evaluation.reference
    [title] = {row.title for row in (*study.runs, *study.baselines) if row.name == name}
    pairs = read(table)
    assert set(pairs.reference) == {title}
    assert sorted(found(pairs)) == sorted(pair for pair in expected if pair[0] != title)
    assert pairs.p_holm.between(0, 1).all()


def test_every_row_with_features_is_asked_for_sites_confounders_and_curves():
    study, expected = asked("full", no_features)
    sites = read("protocol/by-site.csv")
    assert found(sites[sites.left_out.isna()]) == expected
    assert set(sites.left_out.dropna()) == {"A", "B", "C"}
    table = read("protocol/confounding.csv")
    rows = list(dict.fromkeys(row for row, _ in expected))
    about = table[table.question == ABOUT]
    assert found(about) == [(row, each.name) for row in rows for each in study.evaluation.confounders]
    alone = [
        (f"{each.name} alone", t.name)
        for each in study.evaluation.confounders
        for t in study.evaluation.targets
    ]
    assert found(table[table.question != ABOUT]) == alone
    curves = read("protocol/curves.csv")
    timeless = [pair for pair in expected if study.target(pair[1]).task != "survive"]
    assert found(curves, "share") == timeless
    assert len(curves) == len(timeless) * len(study.evaluation.label_shares)


def test_the_control_of_the_texture_is_that_of_its_file():
    found = json.loads((RESULTS / "protocol/texture.json").read_text())["accuracy"]
    value, low, high = (f"{100 * found[key]:.1f}" for key in ("value", "low", "high"))
    assert f"{value} % ({low} to {high}; tests/bench/texture_control.py)" in PAGE.read_text()
