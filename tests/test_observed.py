import pytest
from observed import Page, cell, without

INTRO = "# Odd inputs"


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path / "inputs.md", INTRO, {"Tables": ["an empty file", "a | b"], "Images": ["a FIFO"]})


def test_rows_come_in_the_order_of_the_page_whatever_the_order_of_the_tests(page):
    for name in ("a FIFO", "a | b", "an empty file"):
        page.saw(name, "error", f"{name} is\nno *table*", write=True)
    assert page.path.read_text() == (
        "# Odd inputs\n\n## Tables\n\n| input | what happens | words |\n| --- | --- | --- |\n"
        "| an empty file | error | an empty file is no \\*table\\* |\n"
        "| a \\| b | error | a \\| b is no \\*table\\* |\n\n"
        "## Images\n\n| input | what happens | words |\n| --- | --- | --- |\n"
        "| a FIFO | error | a FIFO is no \\*table\\* |\n"
    )
    page.saw("a | b", "error", "a | b is\nno *table*", write=False)
    page.has_no_other_rows(write=False)


def test_other_words_another_title_and_an_unknown_input_are_differences(page):
    for name in ("a FIFO", "a | b", "an empty file"):
        page.saw(name, "error", "no table", write=True)
    with pytest.raises(AssertionError, match="--write-docs"):
        page.saw("a FIFO", "error", "no tables", write=False)
    page.path.write_text(page.path.read_text().replace("Odd", "Even"))
    with pytest.raises(AssertionError, match="--write-docs"):
        page.has_no_other_rows(write=False)
    page.has_no_other_rows(write=True)
    fewer = Page(page.path, INTRO, {"Tables": ["an empty file"]})
    with pytest.raises(AssertionError, match="--write-docs"):
        fewer.has_no_other_rows(write=False)
    fewer.has_no_other_rows(write=True)
    assert "FIFO" not in page.path.read_text()


def test_a_page_that_was_never_written_differs(page):
    with pytest.raises(AssertionError, match="--write-docs"):
        page.saw("a FIFO", "error", "", write=False)


def test_inputs_have_names_of_their_own(tmp_path):
    with pytest.raises(AssertionError, match="twice"):
        Page(tmp_path / "a.md", INTRO, {"Tables": ["one"], "Images": ["one"]})


def test_a_cell_is_one_line_without_markup():
    assert cell("a\n b\t<i>\x00 `c`") == "a b \\<i\\>\\\\x00 \\`c\\`"


def test_what_varies_is_replaced():
    assert without("/tmp/a1/x took 3.1 s", {r"/tmp/\w+": "FOLDER", r"\d\.\d s": "T"}) == "FOLDER/x took T"
