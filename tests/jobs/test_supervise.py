import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def done():
    command = [sys.executable, str(Path(__file__).with_name("children.py"))]
    return subprocess.run(command, text=True, capture_output=True, check=True, timeout=120)


@pytest.fixture(scope="module")
def found(done):
    return json.loads(done.stdout.splitlines()[-1])


def test_work_that_comes_to_its_end_is_no_error(found):
    assert found["outcomes"]["works"] is None
    assert found["wrote"] == "done"
    assert found["outcomes"]["modest"] is None
    assert found["outcomes"]["one_thread"] is None


@pytest.mark.parametrize(
    ("case", "kind", "word"),
    [
        ("killed", "Crash", "SIGSEGV"),
        ("exits", "Crash", "exit code 5"),
        ("asks_to_exit", "Crash", "crashed"),
        ("greedy", "Crash", "limits.memory_gb"),
        ("endless", "Crash", "longer than 0.1 s"),
        ("odd_file", "Crash", "crashed"),
        ("bug", "Crash", "crashed"),
        ("full_disk", "MachineFault", "could not run"),
        ("bad_disk", "MachineFault", "could not run"),
        ("no_weights", "MachineFault", "could not run"),
        ("full_disk", "MachineFault", "the disk is full"),
        ("bad_disk", "MachineFault", "I/O error"),
        ("no_right", "MachineFault", "no permission: results/a.nii"),
        ("read_only", "MachineFault", "read-only: results/a.nii"),
        ("many_files", "MachineFault", "too many open files"),
        ("stale", "MachineFault", "stale handle): images/a.nii"),
        ("unheard_of", "MachineFault", "the system says: Remote I/O error: images/a.nii"),
        ("no_weights", "MachineFault", "no weights"),
        ("changed", "Crash", "changed while it was read"),
        ("aborts", "Crash", "SIGABRT"),
        ("exits_as_if_done", "Crash", "exit code 0"),
        ("exits_70", "Crash", "exit code 70"),
        ("exits_73", "Crash", "exit code 73"),
        ("killed_from_outside", "Crash", "was killed from outside (SIGKILL), perhaps for want of memory"),
        ("kills_its_group", "Crash", "SIGKILL"),
        ("library_without_memory", "Crash", "more than 2000 MB"),
        ("system_without_memory", "Crash", "more than 2000 MB"),
        ("takes_all", "Crash", "more than 2000 MB"),
        ("terminates", "Crash", "more than 2000 MB"),
        ("stopped", "Crash", "longer than 0.1 s"),
        ("deaf", "Crash", "longer than 0.1 s"),
    ],
)
def test_what_ends_a_child_is_told_apart(found, case, kind, word):
    got, message, advice = found["outcomes"][case]
    assert got == kind
    assert word in message + advice
    assert advice


def test_a_child_out_of_time_is_gone_and_so_are_its_own(found):
    assert found["orphans"] == []


@pytest.mark.parametrize("case", ["floods", "quiet_parent"])
def test_what_is_odd_but_comes_to_its_end_is_no_error(found, case):
    assert found["outcomes"][case] is None


def test_the_log_says_what_the_message_does_not(done):
    assert "No space left on device" in done.stderr
    assert "KeyError: 'a bug'" in done.stderr
    assert "no weights\n  What to do: get some" in done.stderr


def test_the_log_says_what_a_computation_used(done):
    """The one that fills 100 MB: read by its own measure, beside that of the one that does nothing."""
    used = [json.loads(line.removeprefix("used: ")) for line in done.stderr.splitlines() if "used: " in line]
    assert len(used) == 5
    modest, nothing = used[0], used[1]
    assert 95 < modest["peak_mb"] - nothing["peak_mb"] < 115
    assert 0 <= nothing["seconds"] < 5
    assert nothing["read_mb"] < 5
