"""Labels, losses and dropout of supervised networks; the losses of their trainings."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from golden import fill_supervised
from scipy.special import log_softmax

from ctssl.config import DEFAULTS, check
from ctssl.config.runs import Run
from ctssl.errors import ConfigError
from ctssl.methods.supervised import dropped, errors
from ctssl.train.labels import Labels, Task
from ctssl.train.random import sample_keys

NUMBERS = [3.0, 3.5, 9.0, 1.0, 7.0, 6.5, 2.0, 8.0]
HELD = [False, False, True, False, False, False, True, False]


def test_the_task_follows_from_what_is_trained_on_alone():
    labels = Labels("fev1", (), NUMBERS, HELD)
    seen = np.array(NUMBERS)[~np.array(HELD)]
    assert labels.task() == Task(mean=seen.mean(), sd=seen.std())
    np.testing.assert_allclose(labels.targets(), (np.array(NUMBERS) - seen.mean()) / seen.std(), rtol=1e-6)
    other = [n + 50 * held for n, held in zip(NUMBERS, HELD, strict=True)]
    assert replace(labels, values=other).task() == labels.task()
    outputs = labels.targets()[:, None]
    np.testing.assert_allclose(labels.task().values(outputs)[:, 0], NUMBERS, rtol=1e-6)
    assert Labels("flat", (), [2.0, 2.0], [False, False]).task().sd == 1
    assert 0 < np.std([0.1] * 7) < 1e-15
    flat = Labels("flat", (), [0.1] * 7, [False] * 7)
    assert flat.task().sd == 1
    np.testing.assert_allclose(flat.targets(), 0, atol=1e-15)


def test_weighted_classes_count_alike_and_the_mean_weight_is_1():
    classes, values = ("a", "b", "c"), [0, 0, 0, 1, 1, 0, 2]
    task = Labels("x", classes, values, [False] * 6 + [True], weighted=True).task()
    np.testing.assert_allclose(task.weights, [6 / (4 * 2), 6 / (2 * 2), 0])
    assert Labels("x", classes, values, [False] * 7).task().weights == (1, 1, 1)


def test_the_losses_are_squared_error_and_cross_entropy():
    """In numpy and scipy."""
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(5, 1)), rng.normal(size=5)
    found = errors(torch.tensor(outputs), torch.tensor(targets, dtype=torch.float32), Task())
    np.testing.assert_allclose(found, (outputs[:, 0] - targets) ** 2, rtol=1e-5)
    outputs, numbers = rng.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    task = Task(("a", "b", "c"), (0.5, 2.0, 1.0))
    found = errors(torch.tensor(outputs), torch.tensor(numbers, dtype=torch.float32), task)
    wanted = -np.array(task.weights)[numbers] * log_softmax(outputs, axis=1)[np.arange(5), numbers]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(task.values(outputs), np.exp(log_softmax(outputs, axis=1)))


def test_dropout_follows_from_the_keys():
    keys = sample_keys(0, 0, 0, torch.arange(64), torch.zeros(64, dtype=torch.long))
    ones = torch.ones(64, 100)
    first = dropped(ones, keys, 0.25)
    assert torch.equal(first, dropped(ones, keys, 0.25))
    assert torch.equal(first[5:7], dropped(ones[5:7], keys[5:7], 0.25))
    assert first.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert float((first == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.equal(dropped(ones, keys, 0), ones)


def test_a_run_takes_no_weights():
    with pytest.raises(ValueError, match="trained anew inside each fold"):
        Run(name="x", method="cnn-3d", weights="model.safetensors")


def test_more_devices_than_batch_norm_groups_are_refused_with_what_to_do():
    values = yaml.safe_load(DEFAULTS.read_text())
    values["pretraining"]["devices"] = 2
    values["runs"] = [{"name": "net", "method": "cnn-3d"}]
    with pytest.raises(ConfigError, match="run net has 1 batch norm groups to share") as error:
        check(values)
    assert "use fewer devices, or raise its options.bn_groups, which changes results" in str(error.value)
    values["runs"][0]["options"] = {"bn_groups": 2}
    assert check(values).pretraining.devices == 2


def test_the_losses_of_a_training_are_those_written_down(tmp_path):
    """To 1e-3 relative: other instructions of the processor round otherwise."""
    wanted = json.loads(fill_supervised.FILE.read_text())
    for name, losses in wanted.items():
        np.testing.assert_allclose(fill_supervised.losses(tmp_path / name, name), losses, rtol=1e-3)
