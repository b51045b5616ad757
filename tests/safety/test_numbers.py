"""The numbers that docs/safety.md and other pages tell are those of the tests."""

import re
from pathlib import Path

from faults.small_disk import OUTPUTS
from fuzz.seeds import kinds
from fuzz.test_fuzz import LONG, QUICK

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/safety.md").read_text()


def rows(page):
    """How many inputs a page has: the rows of its tables without heads and rules."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return len([line for line in lines if re.match(r"\| (?!input \||---)", line)])


def test_the_page_on_safety_counts_right():
    images, tables = rows("inputs.md"), rows("inputs-tables.md")
    assert f"{images} kinds of images and masks" in TEXT
    assert f"{tables} kinds of manifests" in TEXT
    assert f"lists {images} kinds" in (ROOT / "docs/preparation.md").read_text()
    assert f"{images + tables} kinds of odd input" in (ROOT / "CHANGELOG.md").read_text()
    assert f"files of {len(kinds())} kinds" in TEXT
    assert f"`make test` runs {QUICK * len(kinds())} cases, `make test-all` {LONG * len(kinds()):,}" in TEXT
    assert f"in the middle of each of {len(OUTPUTS)} stages" in TEXT
