"""SIGTERM to a training, as when a node is taken away: Snakemake's retry goes on where it stopped."""

import os
import signal
from pathlib import Path

import pytest
from workflow.study import Study
from workflow.test_kills import processes, start, wait_for
from workflow.test_prepared import CONFIG, atlas, deliver

from ctssl.prepare.atlas import write_card

pytestmark = pytest.mark.xdist_group("workflow")

RUN = "results/runs/tiny/seed0/all"
WEIGHTS = f"{RUN}/model.safetensors"
LONG = CONFIG.replace("epochs: 1,", "epochs: 12,").replace("bn_groups: 1", "bn_groups: 2")
LONG = LONG.replace("threads: 1}", "threads: 1, checkpoint_steps: 5}\nlimits: {retries: 1}")
PAIR = "threads: 1, devices: 2,"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Study:
    """A training of 84 steps, not begun. Never change it: copy it."""
    study = Study(Path(tmp_path_factory.mktemp("whole")) / "study")
    for number in range(8):
        deliver(study.folder / "their stores", f"s{number}", number, atlas())
    write_card(study.folder / "their stores/atlas", atlas(), {"source": "theirs"})
    study.write_rows([{"scan": f"s{n}", "subject": f"p{n}", "fev1pp": f"{90 - 9 * n}"} for n in range(8)])
    text = LONG.replace("patch_batch: 4, graph_batch: 4", "patch_batch: 8, graph_batch: 8")
    (study.folder / "study.yaml").write_text(text)
    return study


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_retry_goes_on_after_sigterm_bit_for_bit(whole, tmp_path, devices):
    undisturbed, study = whole.copy(tmp_path / "undisturbed"), whole.copy(tmp_path / "study")
    for each in (undisturbed, study):
        if devices == 2:
            each.change("threads: 1,", PAIR)
    undisturbed.snakemake(WEIGHTS)

    snakemake = start(study, WEIGHTS)
    wait_for(lambda: list((study.folder / RUN / "checkpoints").glob("step-*.pt")))
    os.kill(min(processes(study, "stage pretrain")), signal.SIGTERM)
    assert snakemake.wait() == 0

    log = (study.results / "logs/pretrain/tiny_seed0_all.log").read_text()
    first, second = log.split("---- attempt 2 ----")
    assert "stopped by SIGTERM after step" in first
    step = int(first.split("stopped by SIGTERM after step ")[1].split(";")[0])
    assert step >= 5
    assert second.count(f"going on after step {step} of") == 1
    assert study.values() == undisturbed.values()
