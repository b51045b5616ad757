"""What stands in headers stays there: no output and no log of a job holds a planted word."""

import base64
import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from prepare.chest import scan
from privacy import dicoms, headers
from privacy.planted import NAME, WORDS, found

from ctssl.cohorts.phantom.scan import SyntheticScan
from ctssl.jobs.supervise import trace_of
from ctssl.prepare.geometry import Place

pytestmark = pytest.mark.xdist_group("privacy")

CONFIG = """
manifest: scans.csv
results: results
atlas: {spacing_mm: 5.0, pitch_mm: 100.0, min_lung_fraction: 0.2}
mask: {method: threshold}
graph: {rho_mm: 120.0}
"""
ONE_THREAD = dict.fromkeys(
    ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
)
SOUND = (*dicoms.SOUND, *headers.SOUND)


def place_of(made: SyntheticScan, every: int = 1) -> Place:
    """Where the voxels of every so many slices of a phantom lie."""
    return Place(np.array(made.origin_mm), np.diag(made.spacing_mm * (1, 1, every)))


def run(folder: Path, rows: list[list[str]]) -> SimpleNamespace:
    """The study in this folder after the stage volume, and what was printed."""
    with (folder / "scans.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["scan", "image", "series_uid"], *rows])
    (folder / "study.yaml").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "privacy.worker", str(folder)],
        capture_output=True,
        check=True,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONWARNINGS": ""},
        timeout=300,
    )
    (folder / "results" / "printed").write_bytes(done.stdout + done.stderr)
    results = folder / "results"
    statuses = {row[0]: json.loads((results / f"volumes/{row[0]}/status.json").read_text()) for row in rows}
    return SimpleNamespace(results=results, statuses=statuses)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    made = scan(1)
    hu, place = made.hu[::2], place_of(made, every=2)  # fewer slices, in less time
    dicoms.write_person(folder / "sound", hu, place)
    rows = [["sound", "sound", ""], ["strange-uid", "sound", "1.2.3"]]
    for name, change in (dicoms.SOUND | dicoms.BROKEN).items():
        if name != "sound":
            shutil.copytree(folder / "sound", folder / name)
            with warnings.catch_warnings():  # pydicom warns of what it is told to write
                warnings.simplefilter("ignore")
                change(folder / name)
            rows.append([name, name, ""])
    for name, write in (headers.SOUND | headers.BROKEN).items():
        write(folder / name, hu, place)
        rows.append([name, name, ""])
    return run(folder, rows)


def test_no_output_and_no_log_holds_a_word_of_a_header(study):
    assert found(study.results) == []


def test_the_sound_ones_are_read_and_the_broken_ones_are_not(study):
    """Else the search above would look at the wrong thing."""
    read = {name for name, status in study.statuses.items() if status["ok"]}
    assert set(SOUND) <= read
    assert read <= set(SOUND)


def test_exclusions_have_a_reason_of_ours(study):
    for name, status in study.statuses.items():
        if not status["ok"]:
            assert status["advice"], name
            assert "crashed" not in status["reason"], (name, status)


def test_kernel_thickness_and_model_are_all_that_is_told(study):
    told = {name: study.statuses[name]["numbers"]["about"] for name in dicoms.SOUND}
    geometry = {"format", "size", "spacing_mm"}
    assert told["sound"].keys() - geometry == {"kernel", "slice_thickness_mm", "scanner"}
    assert (told["sound"]["kernel"], told["sound"]["scanner"]) == ("B30f", "Model 64")
    assert told["kernel"].keys() - geometry == {"slice_thickness_mm"}
    for name in headers.SOUND:
        assert study.statuses[name]["numbers"]["about"].keys() == geometry


def test_the_search_finds_every_word_that_is_there(tmp_path):
    folder = tmp_path / "here"
    ways = {
        "utf8": lambda word: word.encode(),
        "capitals": lambda word: word.upper().encode(),
        "utf16": lambda word: b"x" + word.encode("utf-16-be"),
        "base64": lambda word: base64.b64encode(b"ab" + word.encode() + b"cd"),
        "gzip": lambda word: gzip.compress(b"more " + word.encode()),
    }
    for name, way in ways.items():
        folder.mkdir()
        (folder / "sub").mkdir()
        for word in WORDS:
            (folder / "sub/file").write_bytes(way(word))
            assert found(folder) != [], (name, word)
            (folder / "sub/file").write_bytes(way("harmless"))
            assert found(folder) == []
        shutil.rmtree(folder)
    folder.mkdir()
    (folder / f"{NAME}.txt").touch()
    assert found(folder) == [f"{NAME}.txt: {NAME}"]


TALKS = """
import logging, os, warnings
from contextlib import suppress
from ctssl.log import hushed

print("before")
with suppress(KeyError), hushed():
    os.write(2, b"secret")
    print("secret")
    warnings.warn("secret")
    logging.getLogger("pydicom").warning("secret")
    raise KeyError
print("later")
os.write(2, b"also")
"""


def test_what_libraries_print_and_warn_of_is_dropped_and_other_words_are_not():
    done = subprocess.run([sys.executable, "-c", TALKS], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("before\nlater\n", "also")


def test_a_traceback_of_a_reader_has_no_words_and_others_have():
    def trace(file):
        code = compile(f"int('{NAME}')", file, "exec")
        try:
            exec(code)
        except ValueError as error:
            return trace_of(error)

    assert NAME not in trace("/somewhere/ctssl/prepare/reading.py")
    assert "ValueError" in trace("/somewhere/ctssl/prepare/reading.py")
    assert NAME in trace("/somewhere/ctssl/prepare/registration.py")


def test_the_search_finds_words_in_the_scans_themselves(study):
    """All words were planted, in DICOM and elsewhere."""
    there = found(study.results.parent / "sound")
    assert {hit.rsplit(": ", 1)[1] for hit in there} == set(WORDS)
    for name in headers.SOUND:
        one = study.results.parent / f"only-{name}"
        one.mkdir()
        shutil.copy(study.results.parent / name, one / "file")
        assert found(one) != [], name
