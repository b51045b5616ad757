"""docs/files.md names every key of the config with its default, and every column of the tables."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from ctssl.config.augment import Augment
from ctssl.config.baselines import BASELINES
from ctssl.config.evaluation import Confounder, Target
from ctssl.config.methods import OPTIONS
from ctssl.config.runs import Baseline, Run
from ctssl.config.study import Config
from ctssl.evaluate import curves, pairs, tables, tables_by, tables_confounding, tables_paper
from ctssl.jobs import cohort
from ctssl.manifest import OWN_COLUMNS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/files.md").read_text()
LISTS = {
    "runs": Run,
    "baselines": Baseline,
    "evaluation.targets": Target,
    "evaluation.confounders": Confounder,
}
OPTIONS_KEYS = {"runs[].options", "baselines[].options"}
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
        elif key in OPTIONS_KEYS:
            found[key] = field  # of each method and baseline: docs/options.md
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
        if "[]" not in key or key in OPTIONS_KEYS:
            continue
        text = DOCUMENTED[key]
        assert field.is_required() == (text == ""), key
        if text:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            assert yaml.safe_load(text) == default, key


@pytest.mark.parametrize(
    "columns",
    [
        *(OWN_COLUMNS, cohort.FAILURES, cohort.QUALITY, pairs.COLUMNS, curves.COLUMNS, tables.COLUMNS),
        *(tables_paper.PAPER_COLUMNS, tables_by.BY_COLUMNS, tables_confounding.CONFOUNDING_COLUMNS),
    ],
)
def test_every_column_is_documented(columns):
    assert [name for name in columns if f"`{name}`" not in TEXT] == []


OPTIONS_PAGE = ROOT / "docs/options.md"
INTRO = (
    "# Options of the methods\n\n"
    "`runs[].options` of a run are those of its method, and `baselines[].options` those of a baseline, at "
    "the end of the page; what is not named has the default. The page is "
    "written from the code: `pytest tests/config/test_docs.py -n0 --write-docs`. [P] the paper, [C] the "
    "released code, [us] our choice; [methods.md](methods.md) compares and argues them."
)


def options_page():
    """A table for each method, one of augmentation, and one for each baseline that has options."""
    parts = [INTRO, *(f"## {name}\n\n{table(options)}" for name, options in OPTIONS.items())]
    chosen = {name: options for name, options in BASELINES.items() if options.model_fields}
    baselines = [f"## Baseline {name}\n\n{table(options)}" for name, options in chosen.items()]
    head = "`augment` of a method, a mapping of its own. Lengths are in voxels."
    return "\n\n".join([*parts, f"## Augmentation\n\n{head}\n\n{table(Augment)}", *baselines]) + "\n"


def table(options):
    rows = ["| key | meaning | default |", "|---|---|---|"]
    for name, field in options.model_fields.items():
        assert field.description, f"{options.__name__}.{name} has no description"
        rows.append(f"| `{name}` | {field.description} | `{default_of(field)}` |")
    return "\n".join(rows)


def default_of(field):
    """The default as YAML on one line; of augmentation what is unlike the table of augmentation."""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Augment):
        value = {k: v for k, v in value.model_dump().items() if v != getattr(Augment(), k)}
    plain = yaml.safe_load(yaml.safe_dump(to_lists(value)))
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def to_lists(value):
    if isinstance(value, dict):
        return {name: to_lists(v) for name, v in value.items()}
    return [to_lists(v) for v in value] if isinstance(value, tuple | list) else value


def test_every_option_of_every_method_is_documented(write_docs):
    text = options_page()
    if write_docs:
        OPTIONS_PAGE.write_text(text)
    assert OPTIONS_PAGE.read_text() == text, "see the head of docs/options.md for how to write it anew"


@pytest.mark.parametrize("name", OPTIONS)
def test_a_default_on_the_page_is_that_of_the_code(name):
    section = OPTIONS_PAGE.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    given = {key: yaml.safe_load(default) for key, default in ROW.findall(section)}
    assert given.keys() == OPTIONS[name].model_fields.keys()
    assert OPTIONS[name].model_validate(given) == OPTIONS[name]()
