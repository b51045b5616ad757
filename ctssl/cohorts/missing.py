"""Cells that mean: not known. Words that any study writes, old signs, and words that a user names."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from ctssl.config.base import nearest
from ctssl.errors import CohortError

MISSING = frozenset({"", ".", "na", "nan", "null", "none"})
"""Cells, in any case, that say nothing."""

SENTINELS = frozenset({-1024.0, -9.0, -99.0, -999.0, -9999.0})
"""Numbers that were written in place of nothing."""

_DATE = re.compile(
    r"\d[-./]\d+[-./]\d|\d{4}[-/]\d|\d[-/]\d{4}|^\d{8}$|\d[-./]?[a-z]{3,9}[-./]?\d{2}", re.IGNORECASE
)
_LONGEST = 15  # letters; Uninterpretable has as many


@dataclass(frozen=True)
class Missing:
    """The words of a user.

    Attributes:
        words: column, or "" for all, and word -> as the user gave both.
        removed: as given -> how many cells it emptied.
    """

    words: dict[tuple[str, str], str] = field(default_factory=dict)
    removed: Counter[str] = field(default_factory=Counter)

    @property
    def everywhere(self) -> list[str]:
        """Words that hold in all columns."""
        return [word for column, word in self.words if not column]

    def match(self, column: str, text: str) -> str:
        """The user's word that a cell of a column is, as given; "" when it is none."""
        word = text.lower()
        return self.words.get((column, word), self.words.get(("", word), ""))

    def said(self) -> list[str]:
        """A sentence for each word."""
        return [f"--missing {given}: {self.removed[given]} cell(s)" for given in self.words.values()]


def read_missing(given: Iterable[str], columns: Sequence[str]) -> Missing:
    """The words, each TEXT for all columns, or COLUMN=TEXT for one.

    Raises:
        CohortError: a word names a column that is not asked for.
    """
    words = {}
    for text in given:
        column, equals, word = text.partition("=")
        if equals and column not in columns:
            raise CohortError(
                f"--missing {text}: {column!r} is no label here{nearest(column, columns, 'there is {!r}')}",
                f"give TEXT, or COLUMN=TEXT with one of {', '.join(columns) or 'the labels'}",
            )
        words[(column, word.lower()) if equals else ("", text.lower())] = text
    return Missing(words)


def is_missing(text: str) -> bool:
    """Whether a cell says nothing: empty, a word for that, or a sentinel."""
    return text.lower() in MISSING or number(text) in SENTINELS


def find_signs(texts: Collection[str]) -> set[str]:
    """Those of a column's labels that are an old sign for a missing one.

    -1024, -999 and -9999 always are. -9 and -99 are where nothing else in the column comes near them.
    """
    numbers = {text: number(text.replace(",", ".", 1)) for text in texts}
    others = [value for value in numbers.values() if value is not None and value not in SENTINELS]
    lowest = min(others, default=0.0)
    return {
        text for text, value in numbers.items() if value in SENTINELS and (value < -100 or lowest > value / 2)
    }


def number(text: str) -> float | None:
    """The number, or None: float() alone would read 1_0 as 10."""
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return None
    return float(text)


def shown(text: str, words: int = 1) -> str:
    """A cell in a message. What may tell of a person is not repeated: dates, and more than
    a short word, or as many as may be."""
    if len(text) > _LONGEST or len(text.split()) > words or _DATE.search(text):
        return f"a text of {len(text)} letters"
    return repr(text)
