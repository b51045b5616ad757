"""What a job says when the machine is at fault: on the terminal, in one line, even when its log cannot be."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults.namespace import NAMESPACE, need_mounts
from workflow.study import quiet_environment

from ctssl import errors
from ctssl.files import write_whole
from ctssl.prepare.grid import Grid
from ctssl.prepare.images import read_array, write_array
from ctssl.prepare.transforms import check_transforms

JOB = [
    sys.executable,
    "-c",
    "from ctssl.cli import main; main()",
    "stage",
    "run_settings",
    "--settings",
    "{}",
]
FULL = Path("/dev/full")
needs_dev_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full on this system")


def run(command, **more):
    return subprocess.run(
        command, env=quiet_environment(), text=True, capture_output=True, check=False, timeout=60, **more
    )


@needs_dev_full
def test_a_log_that_cannot_be_written_ends_no_job(tmp_path):
    done = run([*JOB, "--out", str(tmp_path / "out"), "--log", str(FULL)])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == "{}\n"
    assert done.stderr.count("the log cannot be written (No space left on device)") == 1
    assert done.stderr.count("ctssl stage run_settings") == 1, "the words that were for the log"


@needs_dev_full
def test_a_full_disk_is_told_where_log_and_results_are_on_it():
    done = run([*JOB, "--out", str(FULL), "--log", str(FULL)])
    assert done.returncode == 2
    assert "error: run_settings could not run: the disk is full: /dev/full\n  What to do: " in done.stderr


def test_results_that_cannot_be_written_are_no_crash(tmp_path):
    need_mounts(tmp_path)
    results = tmp_path / "results"
    results.mkdir()
    mounts = f"mount --bind {results} {results} && mount -o remount,ro,bind {results}"
    job = [*JOB, "--out", str(results / "out"), "--log", str(tmp_path / "log")]
    done = run([*NAMESPACE, "sh", "-c", f'{mounts} && exec "$@"', "sh", *job])
    assert done.returncode == 2
    said = f"no permission, the file system is read-only: {results / 'out'}"
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert said in (tmp_path / "log").read_text()


LOGGED = """
import sys
from pathlib import Path
from ctssl import log
log.redirect(Path(sys.argv[1]), int(sys.argv[2]))
log.say(sys.argv[3])
sys.stderr.flush()
assert log.last_words(log.written() - 4) == sys.argv[3][-3:] + chr(10)
if sys.argv[4] == "fails":
    log.keep()
"""


def logged(path, attempt, words, end):
    done = run([sys.executable, "-c", LOGGED, str(path), str(attempt), words, end])
    assert done.returncode == 0, done.stderr


def test_a_second_attempt_keeps_the_words_of_the_first(tmp_path):
    path = tmp_path / "a.log"
    logged(path, 1, "first", "fails")
    path.unlink()  # snakemake does
    logged(path, 2, "second", "fails")
    path.unlink()
    logged(path, 3, "third", "ends")
    assert path.read_text() == "first\n---- attempt 2 ----\nsecond\n---- attempt 3 ----\nthird\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_first_attempt_begins_anew(tmp_path):
    path = tmp_path / "a.log"
    logged(path, 1, "of the last run", "fails")
    logged(path, 1, "of this run", "ends")
    assert path.read_text() == "of this run\n"
    assert list(tmp_path.iterdir()) == [path]


def test_every_fault_of_the_machine_has_words_and_advice():
    for code in errno.errorcode:
        fault = errors.machine_fault(OSError(code, os.strerror(code), "there"))
        assert fault.message.endswith(": there")
        assert fault.advice


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("Exception thrown in SimpleITK ImageFileReader_Execute: std::bad_alloc"), True),
        (RuntimeError("itk::ERROR: Failed to allocate memory for image."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (SystemError("error return without exception set"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (RuntimeError("the header is damaged"), False),
        (ValueError("bad_alloc"), False),
    ],
)
def test_want_of_memory_is_known_by_class_or_words(error, memory):
    assert errors.is_memory(error) is memory


def test_a_file_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_whole(path, b"old")

    def failing(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("lost", [1, 5000])
def test_an_array_that_lost_bytes_is_no_array(tmp_path, name, lost):
    """ITK reads what is missing as 0, which is a value."""
    array = np.random.default_rng(0).integers(-1000, 1000, (12, 20, 30)).astype(np.int16)
    write_array(tmp_path / name, array, Grid((0.0, 0, 0), 1.0, (30, 20, 12), "LPS"))
    with (tmp_path / name).open("r+b") as file:
        file.truncate((tmp_path / name).stat().st_size - lost)
    with pytest.raises(errors.StoreError, match="not as it was written"):
        read_array(tmp_path / name)


def test_transforms_that_a_library_did_not_write_are_not_there(tmp_path):
    with pytest.raises(RuntimeError, match=r"1Warp\.nii\.gz was not written"):
        check_transforms(tmp_path / "1Warp.nii.gz")
    (tmp_path / "empty.mat").touch()
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.EIO))):
        check_transforms(tmp_path / "empty.mat")
