"""Every rule's stage has a recipe, a command and its settings, and none is left over."""

import re
from importlib import import_module
from pathlib import Path

from ctssl import settings
from ctssl.jobs.commands import stage
from ctssl.recipes import RECIPES

RULES = "\n".join(path.read_text() for path in sorted((Path(__file__).parents[1] / "rules").glob("*.smk")))
NAMES = re.findall(r"^\s*rule (\w+):", RULES, re.MULTILINE)


def test_recipes_are_those_of_the_settings_that_rules_use():
    used = re.findall(r"settings=(?:lambda w: )?(settings\w*)\.(\w+)\(", RULES)
    assert len(used) == len(NAMES)
    assert {name for _, name in used} == RECIPES.keys()
    assert all(callable(getattr(import_module(f"ctssl.{module}"), name)) for module, name in used)


def test_every_rule_calls_the_command_of_its_name():
    assert re.findall(r"exec ctssl stage (\w+) --settings", RULES) == NAMES
    assert {name.replace("-", "_") for name in stage.commands} == set(NAMES)


def test_recipes_are_integers_from_1():
    assert all(isinstance(n, int) and n >= 1 for n in RECIPES.values())


def test_what_the_patch_store_depends_on_has_recipes():
    assert set(settings.PREPARATION) <= RECIPES.keys()
