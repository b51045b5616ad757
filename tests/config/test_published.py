"""The two published forms of context-aware are configs, and say what docs/methods.md says of them."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from ctssl import config

ROOT = Path(__file__).parents[2]


def merged(*names):
    """The config that snakemake makes of config.yaml and these files, checked."""
    values = yaml.safe_load((ROOT / "config.yaml").read_text())
    for name in names:
        update_config(values, yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()))
    return config.check(copy.deepcopy(values))


def documented(column):
    """Option -> words of a column of the table 'The published forms'."""
    text = (ROOT / "docs/methods.md").read_text().split("**The published forms.**")[1].split("\n\n")[1]
    rows = (line.strip("| ").split(" | ") for line in text.splitlines()[2:])
    return {name: cells[column].strip() for key, *cells in rows for name in re.findall(r"`([\w.]+)`", key)}


@pytest.mark.parametrize("form", ["published/paper", "published/code"])
def test_a_form_is_what_the_table_says(form):
    study = merged("demo", form)
    (run,) = study.runs
    table = documented(form == "published/code")
    options = run.options
    assert str(options.head_layers) == table["head_layers"]
    assert f"{options.optimiser}, {options.epochs}" == table["optimiser"] == table["epochs"]
    assert options.graph_augmentation == table["graph_augmentation"]
    edges, _, scale = table["graph.edges"].partition(", ")
    assert (edges, scale) == (study.graph.edges, "`scale_normalised: false`")
    assert not study.graph.scale_normalised
    assert not options.batch_negatives
    if form == "published/code":
        assert f"{options.patch_rounds}, {options.graph_steps}:" in table["graph_steps"]
        assert options.random_negatives
    assert study.manifest == merged("demo").manifest
    assert study.evaluation == merged("demo").evaluation


def test_the_oracle_cohort_is_compared_with_its_control():
    study = merged("oracle")
    assert study.runs[0].method == "untrained"
    assert {run.options.feature_size for run in study.runs} == {128}
