"""Whatever is done to a file, it gives a result or the project's own error, and nothing else happens.

A defect names its case; `PYTHONPATH=tests python tests/fuzz/worker.py SEED KIND:NUMBER` repeats it.
"""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fuzz.seeds import kinds

SEED = 5
QUICK, LONG = 12, 260  # cases of each kind
TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="needs /proc, to know how much memory a process has"
)


def run(seed: int, counts: dict[str, int]) -> dict[tuple[str, int], str]:
    """(kind, number) -> outcome of so many cases of each kind; a case that ends its process is a defect."""
    found: dict[tuple[str, int], str] = {}
    done = dict.fromkeys(counts, 0)
    while asked := [f"{name}:{done[name]}:{n - done[name]}" for name, n in counts.items() if done[name] < n]:
        ready = set()
        worker = subprocess.run(
            [sys.executable, str(TESTS / "fuzz/worker.py"), str(seed), *asked],
            env=os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        for name, number, outcome in map(json.loads, worker.stdout.splitlines()):
            if number is None:
                ready.add(name)
            else:
                found[name, number], done[name] = outcome, number + 1
        if worker.returncode:
            name = asked[len(ready) - 1].split(":")[0]
            assert name in ready, f"the valid files are refused: {worker.stderr[-2000:]}"
            assert worker.returncode < 0, worker.stderr[-2000:]
            end = signal.Signals(-worker.returncode).name
            found[name, done[name]] = f"defect: ended by {end}" + " (too slow)" * (
                end in ("SIGPROF", "SIGALRM")
            )
            done[name] += 1
    return found


def table(found: dict[tuple[str, int], str]) -> str:
    """A line for each kind: cases, results, errors by class."""
    lines = []
    for name in dict.fromkeys(name for name, _ in found):
        outcomes = Counter(outcome.split(":")[-1].strip() for (n, _), outcome in found.items() if n == name)
        refused = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()) if what != "result")
        lines.append(f"{name:16} {outcomes.total():6} cases {outcomes['result']:6} results   {refused}")
    return "\n".join(lines)


def check(found: dict[tuple[str, int], str]) -> None:
    defects = [f"{name}:{number} {what}" for (name, number), what in found.items() if "defect" in what]
    assert not defects, f"{len(defects)} defects:\n" + "\n".join(defects)


def test_some_hundred_damaged_files_give_a_result_or_a_named_error():
    found = run(SEED, dict.fromkeys(kinds(), QUICK))
    assert len(found) == QUICK * len(kinds())
    check(found)


@pytest.mark.slow
def test_some_thousand_damaged_files_give_a_result_or_a_named_error(capsys):
    found = run(SEED + 1, dict.fromkeys(kinds(), LONG))
    with capsys.disabled():
        print(f"\n{table(found)}\n{len(found)} cases")
    assert len(found) >= 6000
    for name in kinds():  # damage that never or always matters would test nothing
        outcomes = {outcome.split(":")[0] for (n, _), outcome in found.items() if n == name}
        assert {"result", "refused"} <= outcomes, name
    check(found)
