"""A study with all that folds may be: repeats, a site left out, pretraining inside, one scan a subject."""

import json

import pandas as pd
import pytest
from workflow.study import Study
from workflow.test_prepared import atlas, deliver

from ctssl.prepare.atlas import write_card

pytestmark = [pytest.mark.xdist_group("workflow"), pytest.mark.slow]

TINY = "{epochs: 1, patch_batch: 4, graph_batch: 4, graph_steps: 1, bn_groups: 1, queue_size: 8}"
CONFIG = f"""
manifest: scans.csv
prepared: their stores
results: results
pretraining: {{device: cpu, threads: 1}}
runs:
  - {{name: random, method: untrained}}
  - {{name: tiny, method: context-aware, pretrained_on: folds, options: {TINY}}}
evaluation:
  folds: 2
  repeats: 2
  scans_of_subject: first
  rare: drop
  leave_out: site
  targets:
    - {{name: fev1pp, column: fev1pp, task: regress}}
    - {{name: grade, column: grade, task: classify}}
"""
SUBJECTS = 8
INSIDE = {"pretrain_inside", "probe_inside"}


def row(number: int) -> dict[str, str]:
    """Scan of a subject; 8 and 9 are second scans of subjects 0 and 1, which come first by visit in 1."""
    subject = number % SUBJECTS
    return {
        "scan": f"s{number}",
        "subject": f"p{subject}",
        "visit": {8: "2", 9: "0"}.get(number, "1"),
        "site": "abc"[subject % 3],
        "fev1pp": f"{90 - 5 * number}",
        "grade": {7: "9"}.get(subject, str(subject % 2)),
    }


@pytest.fixture(scope="module")
def finished_inside(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Ten stores of eight subjects, run once. Never change it: copy it."""
    study = Study(tmp_path_factory.mktemp("inside") / "study")
    for number in range(10):
        deliver(study.folder / "their stores", f"s{number}", number, atlas())
    write_card(study.folder / "their stores/atlas", atlas(), {"source": "theirs"})
    study.write_rows([row(number) for number in range(10)])
    (study.folder / "study.yaml").write_text(CONFIG)
    study.snakemake()
    return study


@pytest.fixture
def study(finished_inside: Study, tmp_path) -> Study:
    return finished_inside.copy(tmp_path / "study")


def folds(study: Study, name: str = "seed0-plain") -> dict[str, int]:
    table = pd.read_csv(study.results / f"splits/{name}.csv")
    return dict(zip(table.subject, table.fold, strict=True))


def probe(study: Study, place: str) -> tuple[dict, pd.DataFrame]:
    path = study.results / f"{place}.json"
    return json.loads(path.read_text()), pd.read_csv(path.with_suffix(".csv"))


def test_no_network_has_seen_whom_it_is_tested_on(finished_inside):
    fold_of = folds(finished_inside)
    for fold in (0, 1):
        folder = finished_inside.results / f"runs/tiny/seed0/split0-fold{fold}"
        seen = pd.read_csv(folder / "scans.csv")
        assert set(seen.subject) == {s for s, f in fold_of.items() if f != fold}
        assert len(seen) == json.loads((folder / "model.json").read_text())["scans"]
        features = pd.read_parquet(finished_inside.results / f"features/tiny_seed0_split0-fold{fold}.parquet")
        assert len(features) == 10, "features of all scans"
    assert not (finished_inside.results / "runs/tiny/seed0/all").exists()
    result, table = probe(finished_inside, "probes/tiny_seed0_inside/fev1pp")
    assert "pretrained on the fold's training subjects alone" in result["note"]
    assert "the first of 2 splits only" in result["note"]
    assert set(table.repeat) == {0}
    assert finished_inside.plan() == {}


def test_each_repeat_splits_everybody_anew(finished_inside):
    result, table = probe(finished_inside, "probes/random_seed0_all/fev1pp")
    assert folds(finished_inside) != folds(finished_inside, "seed1-plain")
    for repeat, part in table.groupby("repeat"):
        assert dict(zip(part.subject, part.fold, strict=True)) == folds(
            finished_inside, f"seed{repeat}-plain"
        )
    assert [(r["repeat"], r["fold"]) for r in result["folds"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_the_first_scan_by_visit_stands_for_its_subject_and_rare_classes_are_no_cases(finished_inside):
    result, table = probe(finished_inside, "probes/random_seed0_all/fev1pp")
    assert set(table.scan) == {"s0", "s9", *(f"s{n}" for n in range(2, 8))}
    assert "the first labelled scan of each subject counts: 10 scans of 8 subjects" in result["note"]
    graded, table = probe(finished_inside, "probes/random_seed0_all/grade")
    assert set(table.truth) == {0, 1}
    assert "fewer subjects than 2 folds are left out: 9 (1)" in graded["note"]


def test_a_site_is_tested_by_what_the_others_teach(finished_inside):
    result, table = probe(finished_inside, "by/site/random_seed0_all/fev1pp")
    assert {r["fold"]: r["value"] for r in result["folds"]} == {0: "a", 1: "b", 2: "c"}
    site = {f"p{n}": "abc"[n % 3] for n in range(SUBJECTS)}
    assert all("abc"[f] == site[s] for s, f in zip(table.subject, table.fold, strict=True))
    assert not (finished_inside.results / "by/site/tiny_seed0_inside").exists()
    assert (finished_inside.results / "tables/by-site.csv").stat().st_size > 0


def test_a_new_scan_pretrains_nothing_and_is_predicted_by_networks_that_never_saw_it(study):
    before = [path.read_bytes() for path in sorted(study.results.glob("runs/tiny/**/model.safetensors"))]
    deliver(study.folder / "their stores", "s10", 10, atlas())
    study.write_rows([*study.rows(), row(10) | {"subject": "new", "site": "d"}])
    plan = study.plan()
    assert "pretrain_inside" not in plan
    assert plan["probe_inside"] == 2
    study.snakemake()
    assert [p.read_bytes() for p in sorted(study.results.glob("runs/tiny/**/model.safetensors"))] == before
    _, table = probe(study, "probes/tiny_seed0_inside/fev1pp")
    assert "s10" in set(table.scan)


def test_a_changed_split_is_refused_until_the_run_begins_anew(study):
    path = study.results / "splits/seed0-plain.csv"
    table = pd.read_csv(path)
    table.assign(fold=1 - table.fold).to_csv(path, index=False)
    said = study.snakemake("results/probes/tiny_seed0_inside/fev1pp.json", ok=False)
    assert "was trained on subjects that are in this fold now" in said
    assert "ctssl refresh" in said


@pytest.mark.parametrize(
    ("old", "new", "runs", "spares"),
    [
        ("repeats: 2", "repeats: 3", {"splits_again", "probe"}, {"pretrain_inside", "splits"}),
        (
            "scans_of_subject: first",
            "scans_of_subject: mean",
            {"probe", *INSIDE - {"pretrain_inside"}},
            set(),
        ),
        ("folds: 2", "folds: 3", {"splits", "probe", *INSIDE}, {"pretrain"}),
        ("leave_out: site", "leave_out: null", set(), {"probe", *INSIDE}),
        ("pretrained_on: folds", "pretrained_on: all", {"pretrain", "features", "probe"}, INSIDE),
    ],
)
def test_a_changed_rule_reruns_what_it_concerns(study, old, new, runs, spares):
    study.change(old, new)
    plan = set(study.plan())
    assert runs <= plan
    assert not spares & plan


def test_a_changed_visit_reruns_probes_and_trains_nothing(study):
    rows = study.rows()
    study.write_rows([rows[0] | {"visit": "3"}, *rows[1:]])
    plan = study.plan()
    assert (plan["probe"], plan["probe_inside"]) == (4, 2)  # of the run and of LAA-950
    assert "pretrain_inside" not in plan
