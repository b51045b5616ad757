"""The page docs/inputs-tables.md, and what a case of it is."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from observed import Page, without

from ctssl.errors import CtsslError

ROOT = Path(__file__).parents[2]
INTRO = """# Tables, configs and commands that are odd or broken

What `ctssl` says of each, as the tests in `tests/inputs_tables` saw it; `pytest tests/inputs_tables -n0
--write-docs` writes this page. `error`: nothing is started, and the message goes on with what to do.
`repaired`: it is taken, and the words are in the log. `as it is`: it is taken, and is right.
Lines are separated by `/`. FOLDER stands for a path. Images and masks are in [inputs.md](inputs.md)."""
_MOST_S = 120
_MOST_WORDS = 300
_PLAIN = {
    r"\n\s*": " / ",
    r"(the manifest )?\S+/scans\.csv:? (has faults: / )?": "",
    re.escape(str(ROOT)): "HERE",
    r"the configuration has faults: / ": "",
    r"([^\s.])\1{20,}|(x/){20,}": "xxx",
    r"( / line \d+: [^/]+){4,}": " / ... ",
}


@dataclass(frozen=True)
class Case:
    """One input and what it gets.

    Attributes:
        name: what a user would call it.
        happens: error, repaired, or as it is.
        words: what is said of it; of an input that is taken as it is, why.
        make: writes the input into an empty folder and reads it; what it returns is compared with `result`.
        result: what is read; None where it is an error.
        slow: it takes seconds.
    """

    name: str
    happens: str
    words: str
    make: Callable[[Path], object]
    result: object = None
    slow: bool = False


@contextmanager
def soon() -> Iterator[None]:
    """Fails what hangs."""

    def late(*_: object) -> None:
        pytest.fail(f"still busy after {_MOST_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_MOST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check(case: Case, page: Page, folder: Path, capsys: pytest.CaptureFixture[str], *, write: bool) -> None:
    """Assert that a case gets what it should, and compare with the page."""
    folder.mkdir()
    capsys.readouterr()
    error, result = None, None
    with soon():
        try:
            result = case.make(folder)
        except CtsslError as caught:
            error = caught
    said = error.message if error else capsys.readouterr().err
    happens = "error" if error else "repaired" if said else "as it is"
    assert happens == case.happens, said
    assert result == case.result
    assert error is None or (error.advice and len(said) < 4000)
    assert case.words in said or happens == "as it is", said
    words = without(said.strip() or case.words, {**_PLAIN, re.escape(str(folder)): "FOLDER"})
    words = words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]} ..."
    page.saw(case.name, happens, words, write=write)
