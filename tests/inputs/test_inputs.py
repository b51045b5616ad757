"""Every odd image or mask of the tables gives one named error, a recorded repair, or the right chest.

Each goes through the stage `volume` as a job of the workflow does, with limits of time and memory. What was
seen stands in docs/inputs.md; `pytest tests/inputs -n0 --write-docs` writes it.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from inputs import cases_damaged, cases_dicom, cases_masks, cases_paths, cases_place, cases_values
from inputs.good import Case, Row, hu, lungs, place, write_atlas
from observed import Page, without
from scipy.ndimage import map_coordinates

from ctssl.jobs.scan import MASK, SEEN, VOLUME
from ctssl.prepare.images import read_array

pytestmark = pytest.mark.xdist_group("inputs")

THREADS = ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
REPO = Path(__file__).parents[2]
SECTIONS = {
    "Damaged files, and files that promise too much": cases_damaged.CASES,
    "Paths, names and endings": cases_paths.CASES,
    "Sizes, spacings and directions": cases_place.CASES,
    "Values": cases_values.CASES,
    "DICOM": cases_dicom.CASES,
    "Masks": cases_masks.CASES,
}
INTRO = """
# Odd images and masks, and what each gets

Made by `pytest tests/inputs -n0 --write-docs` from what was seen; the test fails when this page and the code
differ. Each input went through the stage `volume` with `mask.method: threshold`, at most 20 s and 1.5 GB.

- **excluded**: the scan is left out; the words say why and, behind the arrow, what to do. The cohort goes on.
- **mended**: what was mended, or what is doubtful, is recorded with the scan. The test holds the values that
  came out against the good chest's, at their places.
- **as it is**: nothing had to be mended; the words say why. Values are held against the good chest's too.
"""
PAGE = Page(
    REPO / "docs/inputs.md", INTRO, {head: [c.name for c in cases] for head, cases in SECTIONS.items()}
)
CASES = [
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else [])
    for cases in SECTIONS.values()
    for case in cases
]
STEPS = np.eye(3)[:, :, None]
VARY = {r"\b1\.2\.826\.[0-9.]+": "UID"}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Makes of a row and a folder what the stage `volume` made of them."""
    atlas = write_atlas(tmp_path_factory.mktemp("atlas") / "atlas")
    script = [sys.executable, str(Path(__file__).with_name("worker.py")), str(atlas)]
    environment = os.environ | dict.fromkeys(THREADS, "1")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(script, **pipes, text=True, env=environment) as worker:

        def ask(row: Row, out: Path) -> dict:
            named = {"image": str(row.image), "mask": str(row.mask) if row.mask else None}
            worker.stdin.write(json.dumps(named | {"series_uid": row.series_uid, "out": str(out)}) + "\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
            assert answer, "the worker died; its traceback is in the captured output"
            return json.loads(answer)

        yield ask
        worker.stdin.close()


@pytest.mark.parametrize("case", CASES)
def test_an_odd_input_is_refused_mended_or_right(case, tmp_path, outcome, write_docs):
    (tmp_path / "in").mkdir()
    row = case.make(tmp_path / "in")
    row = row if isinstance(row, Row) else Row(row)
    seen = outcome(row, tmp_path / "out")
    assert seen["fault"] is None, seen["fault"]
    status = seen["status"]
    words = [status["reason"], status["advice"], *status["numbers"].get("repairs", [])]
    assert str(tmp_path) not in json.dumps(words), "an error names no folder of this machine"
    assert all(word.isprintable() for word in words), words
    if status["ok"]:
        notes = status["numbers"]["repairs"] + status["numbers"]["mask_doubts"]
        assert not case.error, f"it was taken; {notes}"
        assert bool(notes) == bool(case.repair), notes
        assert re.search(case.repair, "; ".join(notes))
        assert_right(case, tmp_path / "out")
        happens, said = ("mended", "; ".join(notes)) if notes else ("as it is", case.why)
    else:
        assert case.error, status["reason"]
        assert re.search(case.error, status["reason"]), status["reason"]
        assert status["advice"]
        assert seen["files"] == ["status.json"]
        happens, said = "excluded", f"{status['reason']} → {status['advice']}"
    PAGE.saw(case.name, happens, without(said, VARY), write=write_docs)


def test_the_page_holds_these_cases_and_no_others(write_docs):
    assert sum(map(len, SECTIONS.values())) >= 70
    PAGE.has_no_other_rows(write=write_docs)


def distances(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(V,) how far values lie from the good chest's at the indices (3, V) z, y, x."""
    return np.abs(values - map_coordinates(hu().astype(float), at, order=1, mode="nearest").clip(-1024, 3071))


def assert_right(case: Case, out: Path) -> None:
    """Values and lungs that came out are those of the good chest at the same places."""
    values, grid = read_array(out / VOLUME)
    mask, mask_grid = read_array(out / MASK)
    assert (mask_grid, values.shape) == (grid, mask.shape)
    points = grid.to_points(np.argwhere(np.ones(grid.shape, bool)).astype(float))
    at = ((points - place().origin_mm) / place().spacing_mm)[:, ::-1].T  # z, y, x
    seen = read_array(out / SEEN)[0].ravel() > 0 if (out / SEEN).exists() else np.ones(values.size, bool)
    there = seen & (at >= 0).all(0) & (at <= np.array(hu().shape)[:, None] - 1).all(0)
    assert case.dice == 0 or there.mean() > 0.4
    off = distances(values.ravel()[there], at[:, there])
    assert np.quantile(off, case.share) <= case.hu
    if case.share < Case.share:  # blurred: then it must at least lie better here than a voxel beside
        others = [distances(values.ravel()[there], at[:, there] + step) for step in (*STEPS, *-STEPS)]
        assert off.mean() < 0.8 * min(other.mean() for other in others)
    assert set(np.unique(mask)) == {0, *map(int, case.sides)}
    truth = map_coordinates(lungs(), at, order=0, cval=0)
    for side in map(int, case.sides if case.dice else ""):
        ours, good = mask.ravel() == side, truth == side
        assert 2 * (ours & good).sum() / (ours.sum() + good.sum()) >= case.dice
