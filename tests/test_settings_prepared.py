"""Settings of a study whose stores and boxes were made elsewhere."""

import os
from itertools import pairwise

import pytest
from test_settings import RUN, texts

FILES = ["stores/a/status.json", "stores/a/store.json", "boxes/a/status.json", "boxes/a/box.json"]


@pytest.fixture
def study(tmp_path):
    """A study in the folder that was prepared for it."""
    for name in ("a.nii", "b.nii", "atlas/atlas.json", *FILES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"id": "theirs"}')
    return tmp_path


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("method", ["context-aware", "moco-v2"])
def test_what_was_replaced_is_seen_by_the_cohort_and_boxes_only_where_a_run_needs_them(study, method, name):
    """Pretraining is not made again: its list of scans is frozen."""
    overlay = {"prepared": str(study), "runs": [RUN | {"method": method}]}
    found = [texts(study, overlay)]
    os.utime(study / name, ns=(5, 5))
    found.append(texts(study, overlay))
    (study / name).unlink()
    found.append(texts(study, overlay))
    stages = {"cohort"} if method == "moco-v2" or name.startswith("stores") else set()
    for before, after in pairwise(found):
        assert {stage for stage in before if before[stage] != after[stage]} == stages
