"""A study that pretrains from a packed copy of its stores."""

import json
import shutil
from pathlib import Path

import pytest
from workflow.study import Study
from workflow.test_prepared import CONFIG, add_row, atlas, deliver

from ctssl.prepare.atlas import write_card

pytestmark = pytest.mark.xdist_group("workflow")

PACKED = "store: {packed: true}\n"
RUN = "runs/tiny/seed0/all"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Four stores and a training from the stores themselves. Never change it: copy it."""
    study = Study(Path(tmp_path_factory.mktemp("packed")) / "study")
    for number in range(4):
        deliver(study.folder / "their stores", f"s{number}", number, atlas())
    write_card(study.folder / "their stores/atlas", atlas(), {"source": "theirs"})
    study.write_rows([{"scan": f"s{n}", "subject": f"p{n}", "fev1pp": f"{90 - 9 * n}"} for n in range(4)])
    (study.folder / "study.yaml").write_text(CONFIG)
    study.snakemake()
    return study


def test_packing_is_turned_on_without_retraining_and_trains_the_same_weights(trained, tmp_path):
    study = trained.copy(tmp_path / "study")
    weights = study.results / RUN / "model.safetensors"
    before = weights.read_bytes()
    (study.folder / "study.yaml").write_text(CONFIG + PACKED)
    assert study.plan() == {"pack": 1, "enough": 1}
    study.snakemake()
    assert study.plan() == {}

    deliver(study.folder / "their stores", "s4", 4, atlas())
    add_row(study, "s4")
    plan = study.plan()
    assert plan["pack"] == 1
    assert "pretrain" not in plan
    study.snakemake()
    card = json.loads((study.results / "packed/packed.json").read_text())
    assert [row["scan"] for row in card["rows"]] == [f"s{n}" for n in range(5)]
    assert study.plan() == {}

    shutil.rmtree(weights.parent / "checkpoints")  # or the finished training's weights are written again
    weights.unlink()  # its scans are frozen: the same four, now from the copy
    (study.results / "features/tiny_seed0_all.parquet").unlink()
    study.snakemake()
    log = (study.results / "logs/pretrain/tiny_seed0_all.log").read_text()
    assert "--packed" in log.splitlines()[0]
    assert weights.read_bytes() == before

    shutil.rmtree(study.results / "packed")
    assert study.plan()["pack"] == 1
    (study.folder / "study.yaml").write_text(CONFIG)
    assert "pretrain" not in study.plan()
