"""One training shared out over processes and passes is the same training, to rounding."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from train import synthetic

from ctssl import config
from ctssl.config import DEFAULTS
from ctssl.errors import ConfigError, WeightsError
from ctssl.train import loop
from ctssl.train.loop import pretrain
from ctssl.train.team import Team

SHAPE = {"bn_groups": 2, "patch_batch": 9, "graph_batch": 9, "queue_size": 21, "epochs": 2, "momentum": 0.9}
SHAPE["learning_rate"] = 0.001
"""Nine scans in groups of five and four; six show landmark 2: one group, and a second
device has none. A queue that no batch divides; at this rate rounding stays small."""

WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from train import synthetic
from ctssl.store.reader import open_store
from ctssl.train.loop import pretrain
from types import SimpleNamespace
import json
folder, out, changes = Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
chest = synthetic.atlas()
paths = sorted(folder.glob("scan*"))
people = SimpleNamespace(
    atlas=chest, stores=[open_store(p, atlas=chest.id) for p in paths], subjects=[p.name for p in paths]
)
pretrain(synthetic.job(people, out, **changes))
"""


@pytest.fixture(scope="module")
def nine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nine")
    people = synthetic.cohort(folder, scans=9, hidden=[(3, 2), (4, 2)])
    people.subjects = [store.path.name for store in people.stores]
    people.folder = folder
    return people


@pytest.fixture(scope="module")
def alone(nine, tmp_path_factory):
    """The training by one process in one pass."""
    out = tmp_path_factory.mktemp("alone")
    torch.set_num_threads(1)
    pretrain(synthetic.job(nine, out, **SHAPE))
    return out


def torchrun(folder: Path, out: Path, processes: int, **changes):
    script = out.parent / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    tests = Path(__file__).parents[1]
    arguments = [str(script), str(tests), str(folder), str(out), json.dumps(changes)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def assert_alike(one: Path, two: Path):
    first, second = (pd.read_csv(out / "history.csv") for out in (one, two))
    assert first.phase.tolist() == second.phase.tolist()
    for name in first.columns.drop("phase"):
        np.testing.assert_allclose(first[name], second[name], rtol=1e-4, atol=1e-4, err_msg=name)
    ours, theirs = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    for name, tensor in ours.items():
        torch.testing.assert_close(
            theirs[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_two_processes_train_what_one_trains(nine, alone, tmp_path):
    done = torchrun(nine.folder, tmp_path / "out", 2, **SHAPE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_alike(alone, tmp_path / "out")


def test_passes_change_nothing_but_rounding(nine, alone, tmp_path):
    pretrain(synthetic.job(nine, tmp_path, passes=2, **SHAPE))
    assert_alike(alone, tmp_path)


def test_the_comparison_can_fail(nine, alone, tmp_path):
    """Other groups give another training, by far more than rounding."""
    pretrain(synthetic.job(nine, tmp_path, **{**SHAPE, "bn_groups": 1}))
    with pytest.raises(AssertionError):
        assert_alike(alone, tmp_path)


def test_more_devices_than_groups_are_refused(nine, tmp_path):
    done = torchrun(nine.folder, tmp_path / "out", 2, **{**SHAPE, "bn_groups": 1})
    assert done.returncode != 0
    assert ConfigError.__name__ in done.stderr
    assert "2 devices share 1 batch norm groups" in done.stderr


@pytest.mark.parametrize(("devices", "told"), [(3, True), (2, False)])
def test_more_devices_than_groups_are_refused_with_the_configuration(devices, told):
    values = yaml.safe_load(DEFAULTS.read_text())
    values["pretraining"]["devices"] = devices
    values["runs"] = [{"name": "mine", "method": "context-aware", "options": {"bn_groups": 2}}]
    given = {"name": "given", "method": "context-aware", "options": {"bn_groups": 1}, "weights": "w"}
    if not told:
        values["runs"].append(given)  # which is not trained
        config.check(values)
        return
    with pytest.raises(ConfigError, match=r"devices is 3, but run mine has 2 batch norm groups") as error:
        config.check(values)
    assert "use fewer devices, or raise its options.bn_groups" in error.value.message


def test_processes_that_see_different_checkpoints_are_refused(nine, tmp_path):
    """As of nodes without a common file system, where each would train another step."""

    class Second(Team):
        def first(self, words, *, everyone):
            return ["12"]

    training = loop._Training(synthetic.job(nine, tmp_path, **SHAPE), torch.device("cpu"), Second(1, 1))
    with pytest.raises(WeightsError, match=r"process 1 finds the checkpoint of step 0 .* that of step 12"):
        training._resume()


def test_alone_nothing_is_exchanged():
    team, row = Team(), torch.ones(2, 3)
    assert team.leads
    assert team.summed(row) is row
    assert team.gathered(row, [2]) is row
    assert team.any(True, torch.device("cpu")) is True
