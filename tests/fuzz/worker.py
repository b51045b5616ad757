"""Runs fuzz cases one after another, each against the clock and a memory cap; a crash ends this process only.

PYTHONPATH=tests python tests/fuzz/worker.py SEED KIND:FIRST:COUNT ...   a line of JSON for each case
PYTHONPATH=tests python tests/fuzz/worker.py SEED KIND:NUMBER            one case again; its files are kept
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from fuzz.kind import Kind, pristine
from fuzz.seeds import kinds

LIMITS_S = {signal.ITIMER_PROF: 10, signal.ITIMER_REAL: 60}  # of work, and of waiting on a busy machine
MEMORY_MB = 2000  # beside what the libraries take
MEANT = ("atlas mask: value", "stores are taken from")  # what readers have to say


def attempt(kind: Kind, truth: Any, folder: Path) -> str:
    """'result', 'refused: CLASS' or 'defect: ...' of the files in a folder."""
    try:
        result = kind.read(folder)
    except kind.errors as error:
        text = str(error).replace("\n", " ")
        if not error.advice:
            return f"defect: no advice: {text}"
        if not text.isprintable() or len(text) > 3000:
            return f"defect: quotes what stands in the file: {text[:300]!r}"
        return f"refused: {type(error).__name__}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"defect: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"[:400]
    return "defect: silently another value" if kind.same and result != truth else "result"


def watched(kind: Kind, truth: Any, folder: Path, noise: Path) -> str:
    """The outcome, with what was printed meanwhile as a defect; ends this process after LIMITS_S."""
    with noise.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for clock, limit_s in LIMITS_S.items():
        signal.setitimer(clock, limit_s)  # nobody handles its signal
    outcome = attempt(kind, truth, folder)
    for clock in LIMITS_S:
        signal.setitimer(clock, 0)
    sys.stdout.flush()
    sys.stderr.flush()
    heard = [line for line in noise.read_text(errors="replace").splitlines() if not line.startswith(MEANT)]
    if heard and not outcome.startswith("defect"):
        return f"defect: prints after {outcome}: {' | '.join(heard)[:300]!r}"
    return outcome


def limit_memory() -> None:
    """From now on this process may take MEMORY_MB more."""
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY_MB * 2**20, resource.RLIM_INFINITY))


def main(seed: int, asked: list[str]) -> None:
    """Print a line of JSON for each kind that is ready (its valid files are read), and for each case."""
    here, every = Path(tempfile.mkdtemp(prefix="ctssl-fuzz-")), kinds()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    for name, first, *count in (one.split(":") for one in asked):
        kind, valid, case = every[name], here / "valid", here / "case"
        truth = pristine(kind, valid)
        print(json.dumps([name, None, "ready"]), file=out)
        limit_memory()
        for number in range(int(first), int(first) + int(count[0] if count else 1)):
            shutil.rmtree(case, ignore_errors=True)
            shutil.copytree(valid, case)
            kind.damage(case, random.Random(f"{seed} {name} {number}"))
            if not count:
                print(f"the files are in {case}", file=out)
                print(kind.read(case))
                return
            print(json.dumps([name, number, watched(kind, truth, case, here / "noise")]), file=out)
    shutil.rmtree(here)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
