"""Where a job's words go: everything into its log file, a steady line now and then to the terminal."""

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

EVERY_S = 10.0
"""Seconds between two progress lines; jobs shorter than this print none."""

_terminal: TextIO = sys.stderr


def redirect(path: Path | None) -> None:
    """Send stdout and stderr, also those of C++ libraries, to a log file; progress stays on the terminal."""
    global _terminal
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _terminal = os.fdopen(os.dup(2), "w", buffering=1)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(log, number)
    os.close(log)


def say(message: str) -> None:
    """Write a line to the job's log (its stderr)."""
    print(message, file=sys.stderr, flush=True)


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
