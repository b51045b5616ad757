"""Labels, ids, reasons and headers that are markup or formulas are text wherever they come out."""

import csv
import html.parser

import numpy as np
import pandas as pd
import pytest

from ctssl.config.evaluation import Target
from ctssl.escaping import in_csv, in_markdown
from ctssl.evaluate import figures, tables
from ctssl.jobs.rows import read_rows, write_rows
from ctssl.prepare.picture import draw_exclusion
from ctssl.prepare.sheet import write_sheet

SCRIPT = "<script>alert('x')</script>"
HOSTILE = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "`code` **bold** [link](http://x) | cell |",
    "=cmd|' /C calc'!A0",
    "$\\frac{$",
    "</td></tr></table>&lt;",
    "line\nbreak",
    "\u202eabc",
]


class Elements(html.parser.HTMLParser):
    """Tags, attributes and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(attrs)))

    def handle_data(self, data):
        self.text += data


def sheet(path, word: str) -> str:
    row = {
        **{"scan": word, "subject": f"of {word}", "verdict": "exclude", "reasons": [word, "second"]},
        **{"excluded_at": word, "advice": word, "picture": word, "image": word, "rung": word, "cut": word},
        **{"repairs": [word], "missing": word},
    }
    write_sheet(path, [row], {"warn_dice": word})
    return path.read_text()


@pytest.mark.parametrize("word", HOSTILE)
def test_the_sheet_has_the_same_elements_whatever_stands_in_it(tmp_path, word):
    plain, odd = Elements(sheet(tmp_path / "a", "harmless")), Elements(sheet(tmp_path / "b", word))
    names = [[(tag, *(name for name, _ in attrs)) for tag, attrs in page.tags] for page in (plain, odd)]
    assert names[0] == names[1]
    assert odd.text.count(word) >= plain.text.count("harmless") - 2  # urls are quoted
    links = [dict(attrs).get("href") or dict(attrs).get("src") for _, attrs in odd.tags]
    assert not any(link.startswith("javascript:") for link in links if link)


@pytest.mark.parametrize("word", HOSTILE)
def test_markdown_shows_a_label_as_it_is(word):
    line = in_markdown(word)
    assert "\n" not in line
    assert "<" not in line
    for sign in "|`*[":
        assert line.count(sign) == line.count(f"\\{sign}")
    assert in_markdown("LAA-950 (n = 5), 3.2 %") == "LAA-950 (n = 5), 3.2 %"


def test_the_page_of_results_holds_one_table_whatever_its_rows_are_called():
    probe = {
        **{"target": "t", "task": "regress", "n": 3, "subjects": 3, "classes": None, "majority": None},
        **{"metrics": None, "folds": [], "note": SCRIPT},
    }
    page = tables.page(
        {word: {"seed0": {"t": probe}} for word in HOSTILE}, [Target(name="t", column="t", task="regress")]
    )
    assert "<" not in page.replace("<br>", "")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(HOSTILE)
    assert {line.replace("\\|", "").count("|") for line in rows} == {3}


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "=cmd|' /C calc'!A0", "-x", "+x"]
)
def test_a_formula_becomes_text(tmp_path, text):
    assert in_csv(text) == f"'{text}"
    write_rows(tmp_path / "rows.csv", ("scan", "reason"), [{"scan": "a", "reason": text}])
    assert read_rows(tmp_path / "rows.csv") == [{"scan": "a", "reason": f"'{text}"}]


@pytest.mark.parametrize(
    "value", ["-1", "+1.5e3", "-0.25", "-inf", "a=b", "", "-", -1, 2.5, None, True, "x-1"]
)
def test_numbers_and_other_texts_stay(value):
    assert in_csv(value) is value


def test_predicted_classes_that_are_formulas_become_text(tmp_path):
    lines = tables.long_table(
        {
            "=row": {
                "seed0": {
                    "t": {
                        **{"target": "t", "task": "classify", "n": 3, "subjects": 3, "majority": 0.5},
                        **{"classes": {"=1+1": 2, "b": 1}, "metrics": None, "folds": [], "note": ""},
                    }
                }
            }
        },
        [Target(name="t", column="t", task="classify")],
    )
    lines.map(in_csv).to_csv(tmp_path / "a.csv", index=False)
    with (tmp_path / "a.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert row["row"] == "'=row"
    assert row["classes"] == "'=1+1:2 b:1"


@pytest.mark.parametrize("word", HOSTILE)
def test_a_figure_is_drawn_whatever_its_labels_are(tmp_path, word):
    scans = list("abc")
    features = pd.DataFrame({"scan": scans, "subject": scans, "f000": [0.0, 1, 3], "f001": [1.0, 0, 2]})
    labels = pd.Series([word, "b", word], scans, name=word)
    figures.feature_maps([(word, features)], labels, word, tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_formula_in_a_label_is_shown_and_not_set(tmp_path):
    """`$x$` as mathematics would be a slanted x."""
    scans = list("abc")
    features = pd.DataFrame({"scan": scans, "subject": scans, "f000": [0.0, 1, 3], "f001": [1.0, 0, 2]})
    drawn = figures.draw([("$x$", features)], None, "")
    [title] = [axis.title for axis in drawn.axes if axis.get_title()]
    assert not title.get_parse_math()
    drawn.canvas.draw()
    assert np.asarray(drawn.canvas.buffer_rgba()).std() > 0


@pytest.mark.parametrize("word", [*HOSTILE, "\0", "\x1b[31m", "x" * 100_000])
def test_a_picture_of_an_exclusion_is_drawn_whatever_the_reason_is(tmp_path, word):
    draw_exclusion(tmp_path / "a.png", "scan", word)
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert not any(kind in data for kind in (b"tEXt", b"iTXt", b"zTXt"))
