"""Where a job's words go: everything into its log file, a steady line now and then to the terminal."""

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

EVERY_S = 10.0
"""Seconds between two progress lines; jobs shorter than this print none."""

TERMINAL = "CTSSL_TERMINAL"
"""Tells a process that a job starts where the terminal is; its stdout and stderr are the job's log."""

_terminal: TextIO = sys.stderr
_log: Path | None = None


def redirect(path: Path | None, attempt: int = 1) -> None:
    """Send stdout and stderr, also those of C++ libraries, to a log file; progress stays on the terminal.

    Args:
        path: of the log; None: nothing changes.
        attempt: the first begins the file anew; a later one goes on after the words that `keep` kept.
    """
    global _terminal, _log
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if attempt > 1 and _kept(path).exists():
        _kept(path).replace(path)
    _kept(path).unlink(missing_ok=True)
    begin = os.O_TRUNC if attempt == 1 else 0
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | begin, 0o644)
    _terminal, _log = os.fdopen(os.dup(2), "w", buffering=1), path
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(log, number)
    os.close(log)
    if attempt > 1:
        say(f"---- attempt {attempt} ----")


def keep() -> None:
    """Keep the log's words for the next attempt: Snakemake removes a log before it tries again (seen)."""
    if _log is not None:
        with suppress(OSError):  # why the job failed is told all the same
            os.link(_log, _kept(_log))


def _kept(log: Path) -> Path:
    return log.with_name(f".{log.name}.kept")


def written() -> int:
    """Bytes in the job's log so far; 0 when words go to the terminal."""
    return _log.stat().st_size if _log else 0


def last_words(since: int) -> str:
    """What was written to the job's log after so many bytes, its last 10,000 at most."""
    if _log is None:
        return ""
    with _log.open("rb") as file:
        file.seek(max(since, written() - 10_000))
        return file.read().decode(errors="replace")


@contextmanager
def hushed() -> Iterator[None]:
    """Nothing; what libraries print and warn of meanwhile, C++ too, is dropped: it may quote a header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _flush()
        kept = {number: os.dup(number) for number in (1, 2)}
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            for number in kept:
                os.dup2(nowhere, number)
            yield
        finally:
            _flush()
            os.close(nowhere)
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)


def _flush() -> None:
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except OSError as error:
        _leave_log(error)


def terminal_path() -> str:
    """What `speak_to` wants to hear in another process, for the terminal of this one."""
    return f"/proc/{os.getpid()}/fd/{_terminal.fileno()}"


def speak_to(path: str) -> None:
    """Send progress lines to another process's terminal; where that cannot be opened, the log has them."""
    global _terminal
    try:
        _terminal = Path(path).open("a", buffering=1)  # noqa: SIM115 (for the life of the process)
    except OSError as error:
        say(f"progress goes to the log alone: {error}")


def say(message: str) -> None:
    """Write a line to the job's log (its stderr); when that cannot be written, to the terminal."""
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError as error:
        _leave_log(error)
        print(message, file=sys.stderr, flush=True)


def _leave_log(error: OSError) -> None:
    """From now on the terminal has all words.

    Raises:
        OSError: there is no log, it is the terminal that cannot be written.
    """
    global _terminal, _log
    if _terminal is sys.stderr:
        raise error
    for number in (1, 2):
        os.dup2(_terminal.fileno(), number)
    _terminal, _log = sys.stderr, None
    print(f"the log cannot be written ({error.strerror}): it goes on here", file=sys.stderr, flush=True)


def tell(message: str) -> None:
    """Write a line to the job's log and to the terminal."""
    say(message)
    if _terminal is not sys.stderr:
        print(message, file=_terminal, flush=True)


class Progress:
    """A rate line every ten seconds: `pretrain context-aware: 120 of 800 steps, 4.1 steps/s, 2:45 left`.

    Args:
        what: the job.
        total: how many units there are.
        unit: the unit's name in the plural.
        done: units that were finished before (a resumed job).
    """

    def __init__(self, what: str, total: int, unit: str, *, done: int = 0) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._first = done
        self._start = self._last = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = time.monotonic()
        if kind is None and self._last > self._start:
            tell(f"{self.what}: {self.done} {self.unit} in {clock(now - self._start)}")

    def advance(self, units: int = 1, note: str = "") -> None:
        """Count finished units; `note` (a loss, say) joins the line when one is due."""
        self.done += units
        now = time.monotonic()
        if now - self._last < EVERY_S:
            return
        self._last = now
        rate = (self.done - self._first) / (now - self._start)
        left = clock((self.total - self.done) / rate) if rate > 0 else "?"
        line = f"{self.what}: {self.done} of {self.total} {self.unit}, {rate:.3g} {self.unit}/s, {left} left"
        tell(f"{line}, {note}" if note else line)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
