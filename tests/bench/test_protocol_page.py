"""docs/results/protocol.md shows what the workflow wrote, of all that its config asks for."""

import re

import pytest
from bench.protocol_page import RESULTS, TABLES, read

from ctssl import config

ROOT = RESULTS.parents[1]
PAGE = RESULTS / "protocol.md"


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


@pytest.mark.parametrize(("file", "folder"), [("full", "protocol"), ("transfer", "transfer")])
def test_every_run_and_baseline_has_its_results(file, folder):
    asked = config.read(ROOT / f"config/{file}.yaml")
    probes = read(f"{folder}/probes.csv")
    assert list(probes.row.unique()) == [row.title for row in (*asked.runs, *asked.baselines)]
    for run in asked.runs:
        targets = {target.name for target in asked.evaluation.targets}
        found = set(probes[probes.row == run.title].target)
        assert found <= targets
        assert found >= ({*run.targets} if run.targets else {"fev1pp", "severe-emphysema", "gold"})


def test_the_page_has_no_other_tables_of_results():
    assert set(re.findall(r"<!-- table (.+) -->", PAGE.read_text())) == set(TABLES)
