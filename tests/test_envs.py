"""One list of versions: constraints.txt. The conda environments and pyproject.toml agree with it."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = {canonicalize_name(name): version for name, version in (line.split("==") for line in LINES)}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [text for group in PROJECT["optional-dependencies"].values() for text in group]
ENVS = sorted((ROOT / "envs").glob("*.yaml"))


def test_every_line_is_one_pin():
    assert len(PINS) == len(LINES)
    assert {"torch", "snakemake", "zarr"} <= PINS.keys()


@pytest.mark.parametrize("text", PROJECT["dependencies"] + EXTRAS)
def test_every_dependency_is_pinned_within_its_bounds(text):
    needed = Requirement(text)
    assert needed.specifier.contains(PINS[canonicalize_name(needed.name)])


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.stem)
def test_pins_of_an_environment_are_those_of_constraints(path):
    [python, _, pip] = yaml.safe_load(path.read_text())["dependencies"]
    assert Requirement(PROJECT["name"] + PROJECT["requires-python"]).specifier.contains(python.split("=")[1])
    for line in pip["pip"]:
        name, version = line.split("==")
        assert PINS[canonicalize_name(name)] == version


def test_the_environments_hold_nothing_that_the_project_does_not_name():
    extras = {name: texts for name, texts in PROJECT["optional-dependencies"].items() if name != "dev"}
    texts = [*PROJECT["dependencies"], *(text for group in extras.values() for text in group)]
    named = {canonicalize_name(Requirement(text).name) for text in texts}
    held = set()
    for path in ENVS:
        [_, _, pip] = yaml.safe_load(path.read_text())["dependencies"]
        held |= {canonicalize_name(line.split("==")[0]) for line in pip["pip"]}
    assert held <= named


def test_every_rule_names_an_environment_that_exists():
    rules = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    used = set(re.findall(r'"\.\./envs/(\w+)\.yaml"', rules))
    assert used == {path.stem for path in ENVS}
