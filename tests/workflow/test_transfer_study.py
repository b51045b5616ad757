"""Pretrained on one cohort, probed on another, with every table that a study may ask for."""

from pathlib import Path

import pandas as pd
import pytest
from workflow.study import Study
from workflow.test_prepared import atlas, deliver

from ctssl.prepare.atlas import write_card

pytestmark = [pytest.mark.xdist_group("workflow"), pytest.mark.slow]

COMMON = """
manifest: scans.csv
prepared: their stores
results: results
pretraining: {device: cpu, threads: 1}
"""
FIRST = f"""{COMMON}
cohort: First
runs:
  - name: tiny
    method: context-aware
    options: {{epochs: 1, patch_batch: 4, graph_batch: 4, graph_steps: 1, bn_groups: 1, queue_size: 8}}
"""
SECOND = f"""{COMMON}
cohort: Second
runs:
  - {{name: given, label: Ours (pretrained on First), method: context-aware, weights: WEIGHTS}}
evaluation:
  folds: 3
  confounders: [site]
  leave_out: site
  published: covid19-ct
  targets:
    - {{name: covid, column: covid, task: classify}}
    - {{name: fev1pp, column: fev1pp, task: regress}}
"""
SCANS = 12


def cohort(folder: Path, config: str, chest: str = "theirs") -> Study:
    """Stores that get denser from scan to scan; sites take turns."""
    study = Study(folder)
    for number in range(SCANS):
        deliver(folder / "their stores", f"s{number}", number, atlas(chest))
    write_card(folder / "their stores/atlas", atlas(chest), {"source": "theirs"})
    study.write_rows(
        [
            {
                "scan": f"s{n}",
                "subject": f"p{n}",
                "fev1pp": f"{95 - 5 * n}",
                "covid": n // 6,
                "site": "AB"[n % 2],
            }
            for n in range(SCANS)
        ]
    )
    (folder / "study.yaml").write_text(config)
    return study


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study that only pretrains. Never change it."""
    study = cohort(Path(tmp_path_factory.mktemp("first")) / "study", FIRST)
    study.snakemake()
    return study


def given(first: Study) -> str:
    return SECOND.replace("WEIGHTS", str(first.results / "runs/tiny/seed0/all/model.safetensors"))


@pytest.fixture(scope="module")
def second(first: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of given weights, run once. Never change it: copy it."""
    study = cohort(Path(tmp_path_factory.mktemp("second")) / "study", given(first))
    study.snakemake()
    return study


def test_tables_name_the_cohort_of_the_weights(second):
    probes = pd.read_csv(second.results / "tables/probes.csv")
    on = dict(zip(probes.row, probes.pretrained_on, strict=True))
    assert on == {"Ours (pretrained on First)": "First", "LAA-950": "nothing"}
    page = (second.results / "tables/probes.md").read_text()
    assert (
        "- Ours (pretrained on First): First. How the scans it learnt from were prepared is not known."
        in page
    )


def test_the_third_table_has_a_column_of_the_cohort(second):
    page = (second.results / "tables/paper.md").read_text()
    head = next(line for line in page.splitlines() if line.startswith("| figures"))
    assert head == "| figures | method | COPDGene | MosMed | data of its authors | nothing | First |"
    own = [line for line in page.splitlines() if line.startswith("| this study | ")]
    assert [line.split(" | ")[1] for line in own] == ["Ours", "LAA-950"]
    assert own[0].split(" | ")[2:6] == ["-", "-", "-", "-"]
    assert r"\toprule" in (second.results / "tables/paper.tex").read_text()


def test_confounders_and_left_out_values_have_their_tables(second):
    table = pd.read_csv(second.results / "tables/confounding.csv")
    assert set(table.row) == {"Ours (pretrained on First)", "LAA-950", "site alone"}
    of = table[table.metric == "accuracy"].set_index(["row", "target"]).value
    assert of["site alone", "covid"] < 0.7  # sites take turns
    by = pd.read_csv(second.results / "tables/by-site.csv")
    assert set(by.left_out.dropna()) == {"A", "B"}
    assert set(by.row) == {"Ours (pretrained on First)", "LAA-950"}


def test_an_edited_confounder_trains_and_extracts_nothing(second, tmp_path):
    study = second.copy(tmp_path / "study")
    assert study.plan() == {}
    rows = study.rows()
    rows[3]["site"] = "A"
    study.write_rows(rows)
    again = {"confounder": 2, "alone": 2, "confounding": 1, "splits_by": 1, "probe_by": 4, "tables_by": 1}
    assert study.plan() == again


def test_weights_of_another_atlas_are_refused(first, tmp_path):
    study = cohort(tmp_path / "study", given(first), chest="ours")
    study.snakemake("results/features/given_seed0_all.parquet", ok=False)
    log = (study.results / "logs/features/given_seed0_all.log").read_text()
    assert "was trained with atlas theirs, but this atlas has ours" in log
