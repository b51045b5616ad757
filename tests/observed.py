"""Pages of docs/ that tests write and hold true: one row for each input, with what was seen.

A test file makes one `Page` from the names of its cases; the test of each case ends with `page.saw(...)`,
and one more test calls `page.has_no_other_rows(...)`. `pytest FOLDER --write-docs` writes what was seen in
place of comparing (fixture `write_docs`). Each test compares its own row alone, so tests may run in any
order, apart, and in many processes.
"""

import fcntl
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

HEAD = "| input | what happens | words |\n| --- | --- | --- |"
_ROW = re.compile(r"^\| (.+?) (?<!\\)\| ")


class Page:
    """A page with a table below each heading.

    Args:
        path: of the page.
        intro: its title and what stands above the tables, as markdown.
        sections: heading -> names of its inputs, in the order of the page.
    """

    def __init__(self, path: Path, intro: str, sections: Mapping[str, Iterable[str]]) -> None:
        self.path = path
        self.intro = intro.strip()
        self.sections = {heading: [cell(name) for name in names] for heading, names in sections.items()}
        names = [name for rows in self.sections.values() for name in rows]
        twice = {name for name in names if names.count(name) > 1}
        assert not twice, f"inputs that come twice: {twice}"

    def saw(self, name: str, happens: str, words: str, *, write: bool) -> None:
        """Compare what was seen of one input with its row, or write the row."""
        row = f"| {cell(name)} | {cell(happens)} | {cell(words)} |"
        if write:
            self._rewrite({cell(name): row})
        else:
            assert self._rows().get(cell(name)) == row, self._mend()

    def has_no_other_rows(self, *, write: bool) -> None:
        """Compare all of the page but what `saw` looks at, or write that."""
        if write:
            self._rewrite({})
        else:
            assert self.path.read_text(encoding="utf-8") == self._text(self._rows()), self._mend()

    def _rewrite(self, rows: Mapping[str, str]) -> None:
        with Path(__file__).open() as lock:  # other processes write rows of the same page
            fcntl.flock(lock, fcntl.LOCK_EX)
            new = self.path.with_suffix(".new")
            new.write_text(self._text(self._rows() | rows), encoding="utf-8")
            new.replace(self.path)

    def _rows(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        lines = self.path.read_text(encoding="utf-8").splitlines()
        found = ((_ROW.match(line), line) for line in lines)
        return {match[1]: line for match, line in found if match}

    def _text(self, rows: Mapping[str, str]) -> str:
        missing = "| {} | not seen yet | |"
        parts = [self.intro]
        for heading, names in self.sections.items():
            table = [rows.get(name, missing.format(name)) for name in names]
            parts.append("\n".join([f"## {heading}", "", HEAD, *table]))
        return "\n\n".join(parts) + "\n"

    def _mend(self) -> str:
        return (
            f"{self.path.name} differs from what was seen; `pytest THIS_FILE -n0 --write-docs` writes it anew"
        )


def cell(text: str) -> str:
    """Text as one cell of a markdown table: one line, no markup, control characters as escapes."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return re.sub(r"([\\|<>*_`\[\]])", r"\\\1", line)


def without(text: str, places: Mapping[str, str]) -> str:
    """The text with what differs from run to run (folders, numbers) replaced: pattern -> word, in order."""
    for pattern, word in places.items():
        text = re.sub(pattern, word, text)
    return text
