"""Confounders of the config: a column, or a name and a column."""

import pytest
import yaml

from ctssl import config
from ctssl.errors import ConfigError


def read(tmp_path, **evaluation):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"evaluation": evaluation}))
    return config.read(tmp_path / "study.yaml")


@pytest.mark.parametrize(
    ("given", "name", "column"),
    [
        ("site", "site", "site"),
        ("slice_mm", "slice-mm", "slice_mm"),
        ("Slice thickness (mm)", "slice-thickness-mm", "Slice thickness (mm)"),
        ({"column": "KVP"}, "kvp", "KVP"),
        ({"name": "hospital", "column": "医院"}, "hospital", "医院"),
    ],
)
def test_a_column_gives_the_name_unless_there_is_one(tmp_path, given, name, column):
    chosen = read(tmp_path, confounders=[given])
    assert (chosen.confounder(name).name, chosen.confounder(name).column) == (name, column)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["医院"], "the column '医院' makes no name.*give the confounder a `name`"),
        ([{"name": "", "column": "医院"}], "give the confounder a `name`"),
        (["x" * 61], "give the confounder a `name`"),
        ([{"name": "Site", "column": "site"}], "a name has up to 60 small letters"),
        ([{"name": "site"}], r"confounders\.0\.column: this key is missing"),
        ([{"column": "site", "kind": "classify"}], "there is no such key"),
        ([{"column": "site", "task": "survive"}], "'regress' or 'classify'"),
        (["site", "Site"], "names of confounders must differ, but these come twice: site"),
        ([3], "confounders.0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, given, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, confounders=given)


@pytest.mark.parametrize("given", ["COPDGene", "lidc"])
def test_only_cohorts_with_published_figures_can_be_named(tmp_path, given):
    with pytest.raises(ConfigError, match="'copdgene', 'mosmed' or 'covid19-ct'"):
        read(tmp_path, published=given)
