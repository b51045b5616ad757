import pytest
from inputs_tables.book import CASES, PAGE
from inputs_tables.page import check

ALL = [
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else [])
    for cases in CASES.values()
    for case in cases
]


@pytest.mark.parametrize("case", ALL)
def test_an_input_gets_what_the_page_says(case, tmp_path, capsys, write_docs):
    check(case, PAGE, tmp_path / "in", capsys, write=write_docs)


def test_the_page_holds_these_inputs_and_no_others(write_docs):
    PAGE.has_no_other_rows(write=write_docs)
