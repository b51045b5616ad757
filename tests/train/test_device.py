import subprocess

import pytest
import torch

from ctssl.errors import ConfigError
from ctssl.train import device
from ctssl.train.device import claim, claim_several, gpu_slots, pick_device


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
    with gpu_slots(uuids, tmp_path, 1) as first:
        with gpu_slots(uuids, tmp_path, 1) as second:
            assert (first, second) == ([0], [1])
        with gpu_slots(uuids, tmp_path, 1) as again:
            assert again == [1]
    with gpu_slots(uuids, tmp_path, 1) as freed:
        assert freed == [0]
    with gpu_slots(uuids, tmp_path, 2) as both:
        assert both == [0, 1]


def waiting(monkeypatch, what):
    """Calls `what` in the third pause of a waiting job; gives the pauses."""
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            what()

    monkeypatch.setattr("ctssl.train.device.time.sleep", pause)
    return pauses


def test_a_job_waits_until_enough_gpus_are_free_at_once(tmp_path, monkeypatch):
    uuids = ["GPU-a", "GPU-b", "GPU-c"]
    holder = gpu_slots(uuids, tmp_path, 2)
    holder.__enter__()
    free = []

    def look_and_leave():
        with gpu_slots(uuids, tmp_path, 1) as index:  # the waiting job holds none of them
            free.extend(index)
        holder.__exit__(None, None, None)

    pauses = waiting(monkeypatch, look_and_leave)
    with gpu_slots(uuids, tmp_path, 2) as indices:
        assert indices == [0, 1]
    assert (free, len(pauses)) == ([2], 3)


def test_more_gpus_than_there_are_is_an_error(tmp_path):
    with (
        pytest.raises(ConfigError, match="2 GPUs are asked for, but 1 are here"),
        gpu_slots(["a"], tmp_path, 2),
    ):
        pass


def test_processes_are_told_their_gpus(tmp_path, monkeypatch):
    """Fake devices: of those that this process may see, by the name it sees them; it uses none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: pytest.fail("asked in this process"))
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, "a b c\n"))
    monkeypatch.setattr(device, "slot_folder", lambda: tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    with gpu_slots(["a", "b", "c"], tmp_path, 1), claim_several("cuda", 2) as told:
        assert told == {"CUDA_VISIBLE_DEVICES": "6,7"}
    with claim_several("cpu", 2) as told:
        assert told == {}
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with claim_several("cuda", 2) as told:
        assert told == {}


def test_another_process_is_asked_for_the_gpus():
    """There may be none here: then it finds none, without a word of error."""
    assert len(device._uuids_from_outside()) == torch.cuda.device_count()


def test_a_process_of_a_team_takes_the_gpu_of_its_rank(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with claim("cuda") as mine:
        assert mine == torch.device("cuda", 1)
    assert chosen == [mine]
