"""The contact sheet, read by an HTML parser."""

from html.parser import HTMLParser

import pytest

from ctssl.prepare.sheet import write_sheet

LIMITS = {"warn_dice": 0.95, "exclude_dice": None}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def row(scan, verdict="pass", **more):
    usual = {"scan": scan, "subject": scan, "verdict": verdict, "reasons": [], "picture": f"{scan}.png"}
    return usual | {"excluded_at": ""} | more


class Page(HTMLParser):
    """Tags in their order, and the text outside script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.text, self._inside = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        self.text += "" if self._inside in ("script", "style") else data

    def of(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture
def page(tmp_path):
    def make(*rows):
        write_sheet(tmp_path / "index.html", rows, LIMITS)
        return Page((tmp_path / "index.html").read_text())

    return make


def test_the_worst_scan_comes_first(page):
    made = page(
        row("fine", dice_right=0.99, dice_left=0.98),
        row("weak", dice_right=0.99, dice_left=0.96),
        row("warned", "warn", reasons=["one"]),
        row("lost", "exclude", reasons=["why"], excluded_at="volume", advice="do this"),
        row("twice", "warn", reasons=["one", "two"]),
    )
    assert [card["id"] for card in made.of("article")] == [
        *("scan-lost", "scan-twice", "scan-warned", "scan-weak", "scan-fine")
    ]
    assert [card["data-number"] for card in made.of("article")] == ["3", "4", "2", "1", "0"]
    assert [box["value"] for box in made.of("input") if box.get("name") == "verdict"] == [
        "exclude",
        "warn",
        "pass",
    ]


def test_a_card_says_verdict_reasons_advice_and_numbers(page):
    numbers = {
        "dice_right": 0.61234,
        "dice_left": None,
        "valid_fraction": 0.5,
        "cut": "bottom",
        "missing": "",
    }
    made = page(
        row(
            "anna",
            "exclude",
            reasons=["Dice is low", "cut"],
            excluded_at="quality",
            advice="look at it",
            repairs=["padding"],
            **numbers,
        )
    )
    for words in ("anna", "at quality", "Dice is low", "look at it", "0.612", "50%", "bottom", "padding"):
        assert words in made.text
    for words in ("Dice left", "None", "nan", "missing lung", "subject"):
        assert words not in made.text
    assert "warn_dice: 0.95, exclude_dice: none" in made.text


def test_pictures_are_lazy_and_relative_and_only_where_there_are_some(page):
    made = page(row("anna"), row("berta", picture=None))
    [image] = made.of("img")
    assert (image["src"], image["loading"]) == ("anna.png", "lazy")
    assert [link["href"] for link in made.of("a")] == ["anna.png"]


def test_what_others_wrote_is_text_and_no_code(page):
    hostile = row(HOSTILE, "exclude", reasons=[HOSTILE], excluded_at=HOSTILE, advice=HOSTILE, subject="p1")
    made = page(hostile | {"picture": HOSTILE, "cut": HOSTILE, "repairs": [HOSTILE]}, row("anna"))
    plain = page(row("anna"), row("berta"))
    assert len(made.of("script")) == len(plain.of("script")) == 1
    assert len(made.of("img")) == 2
    assert not any("onerror" in attrs for _, attrs in made.tags)
    assert made.text.count("<script>alert(1)</script>") == 6


def test_nothing_is_fetched_and_equal_tables_give_equal_bytes(page, tmp_path):
    page(row("anna"), row("berta", "warn", reasons=["é ✓"]))
    first = (tmp_path / "index.html").read_bytes()
    assert b"http" not in first
    page(row("anna"), row("berta", "warn", reasons=["é ✓"]))
    assert (tmp_path / "index.html").read_bytes() == first


def test_a_cohort_of_nobody_is_a_page(page):
    assert "Quality of 0 scans" in page().text
