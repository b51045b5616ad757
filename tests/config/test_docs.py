"""docs/files.md names every key of the config with its default, and every column of the tables."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from ctssl.config.methods import OPTIONS
from ctssl.config.study import Config, Run, Target
from ctssl.evaluate import tables
from ctssl.jobs import cohort
from ctssl.manifest import OWN_COLUMNS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/files.md").read_text()
LISTS = {"runs": Run, "evaluation.targets": Target}
ROW = re.compile(r"^\| `([^`]+)` \| .+ \| (?:`(.+)`|must be given) \|$", re.MULTILINE)
DOCUMENTED = dict(ROW.findall(TEXT.split("\n## Config\n")[1]))
"""Key -> default as YAML, or "" where it must be given."""


def keys(section, prefix=""):
    """Key -> field of all keys below a section; those of the items of a list as runs[].name."""
    found = {}
    for name, field in section.model_fields.items():
        key = prefix + name
        if key in LISTS:
            found |= {key: field} | keys(LISTS[key], f"{key}[].")
        elif key == "runs[].options":
            found[key] = field
            for options in OPTIONS.values():
                found |= keys(options, f"{key}.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= keys(field.annotation, f"{key}.")
        else:
            found[key] = field
    return found


def test_every_key_of_the_config_is_documented_and_no_other():
    assert DOCUMENTED.keys() == keys(Config).keys()


def test_documented_defaults_are_those_of_config_yaml():
    defaults = yaml.safe_load((ROOT / "config.yaml").read_text())
    for key, text in DOCUMENTED.items():
        if "[]" in key:
            continue
        value = defaults
        for name in key.split("."):
            value = value[name]
        assert yaml.safe_load(text) == value, key


def test_documented_defaults_of_runs_and_targets_are_those_of_the_code():
    for key, field in keys(Config).items():
        if "[]" not in key or key == "runs[].options":
            continue
        text = DOCUMENTED[key]
        assert field.is_required() == (text == ""), key
        if text:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            assert yaml.safe_load(text) == default, key


@pytest.mark.parametrize("columns", [OWN_COLUMNS, cohort.FAILURES, cohort.QUALITY, tables.COLUMNS])
def test_every_column_is_documented(columns):
    assert [name for name in columns if f"`{name}`" not in TEXT] == []
