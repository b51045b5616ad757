import pytest
import torch

from ctssl.errors import ConfigError
from ctssl.train.device import claim, gpu_slot, pick_device


def test_cuda_that_is_not_there_is_an_error_with_the_way_out(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"set pretraining\.device: cpu"):
        pick_device("cuda")
    with pytest.raises(ConfigError, match="this is 'tpu'"):
        pick_device("tpu")


def test_cpu_is_preferred_when_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == pick_device("cuda").type == "cuda"
    with claim("cpu") as device:
        assert device == torch.device("cpu")


def test_each_gpu_goes_to_one_job(tmp_path):
    uuids = ["GPU-a", "GPU-b"]
    with gpu_slot(uuids, tmp_path) as first:
        with gpu_slot(uuids, tmp_path) as second:
            assert (first, second) == (0, 1)
        with gpu_slot(uuids, tmp_path) as again:
            assert again == 1
    with gpu_slot(uuids, tmp_path) as freed:
        assert freed == 0


def test_a_job_waits_until_a_gpu_is_free(tmp_path, monkeypatch):
    holder = gpu_slot(["GPU-a"], tmp_path)
    holder.__enter__()
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            holder.__exit__(None, None, None)

    monkeypatch.setattr("ctssl.train.device.time.sleep", pause)
    with gpu_slot(["GPU-a"], tmp_path) as index:
        assert index == 0
    assert len(pauses) == 3
