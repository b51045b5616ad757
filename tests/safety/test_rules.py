"""No rule builds a shell command from a value that is not quoted; every rule has what decision 1 asks for."""

from pathlib import Path

import pytest
from safety import rulebook

from ctssl.recipes import RECIPES

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]

GOOD = """
rule one:
    input:
        image="a",
    output:
        text="b",
    log:
        "c",
    conda:
        "d.yaml"
    threads: 1
    params:
        settings="e",
    shell:
        "exec ctssl stage one --settings {params.settings:q} --log {log:q}"
        " --image {input.image:q} --out {output.text:q} --threads {threads:q}"
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_rule_is_sound(path):
    assert rulebook.faults(path.read_text()) == []


def test_all_rules_were_looked_at():
    names = [
        rule.name for path in FILES for rule in rulebook.rules_of(rulebook.compiled(path.read_text())[0])
    ]
    again = {"run_settings", "fold_settings", "pretrain_inside", "splits_again"}  # with others' settings
    assert sorted(names) == sorted({*RECIPES, *again, "all"})
    assert rulebook.faults(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("{input.image:q}", "{input.image}", "one: has {input.image} without :q"),
        ("{input.image:q}", "{input.image!r:q}", "one: has {input.image} without :q"),
        ("{input.image:q}", "{input.image:u}", "one: has {input.image} without :q"),
        ("{input.image:q}", "{{{input.image}}}", "one: has {input.image} without :q"),
        ("{threads:q}", "{threads}", "one: has {threads} without :q"),
        ("{threads:q}", "{config[x]}", "one: has {config[x]} without :q"),
        ('"exec ctssl stage one', 'f"exec ctssl stage one', "one: has a shell string that is computed"),
        ('{threads:q}"', '" + str(config["x"])', "one: has a shell string that is computed"),
        ("exec ctssl stage", "ctssl stage", "one: does not begin with exec ctssl stage"),
        ('text="b"', '"b"', "one: has an output without a name"),
        ('    log:\n        "c",\n', "", "one: has no log"),
        ('    conda:\n        "d.yaml"\n', "", "one: has no conda"),
        ("    threads: 1\n", "", "one: has no threads"),
        ('settings="e"', 'settings="e", other=1', "one: has params other than settings"),
        ("    threads: 1\n", '    threads: 1\n    shadow: "full"\n', "one: has shadow"),
        ("rule one:", 'shell("rm -r {x}")\nrule one:', "a shell is called outside of a rule"),
    ],
)
def test_a_planted_fault_is_found(old, new, fault):
    assert GOOD.count(old) == 1
    assert fault in rulebook.faults(GOOD.replace(old, new))


@pytest.mark.parametrize(("keyword", "body"), [("run", 'open("x")'), ("script", '"x.py"')])
def test_a_rule_with_code_is_found(keyword, body):
    head, _ = GOOD.split("    shell:")
    found = rulebook.faults(f"{head}    {keyword}:\n        {body}\n")
    assert "one: has no shellcmd" in found


def test_a_fault_in_a_branch_that_is_not_taken_is_found():
    inside = "".join(f"    {line}\n" for line in GOOD.replace("{log:q}", "{log}").strip().splitlines())
    assert rulebook.faults(f"if False:\n{inside}") == ["one: has {log} without :q"]
