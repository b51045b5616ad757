"""On a GPU the host runs ahead of the device: a step asks it for nothing but its terms, once.

Without a GPU: the step is done here by the ways of a GPU, and each operation that would wait is noted.
"""

import traceback
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from train import synthetic
from train.test_step import prepared

from ctssl.config.augment import PRESETS
from ctssl.train.augment import augmented, corrupt, intensity
from ctssl.train.random import sample_keys

ASKS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim"}
"""Results whose size or value the host must know."""


class Waits(TorchDispatchMode):
    """Counts (operation, file, line) of what would let the host wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        frame = [f for f in traceback.extract_stack() if "/ctssl/" in f.filename][-1]
        # a tensor made of Python's numbers is a copy from the host; the networks have ways of the CPU alone
        copied = name == "lift_fresh" and "/networks/" not in frame.filename
        if name in ASKS or masks or copied:
            self.seen[name, frame.filename.rpartition("/")[2], frame.line] += 1
        return function(*args, **(kwargs or {}))


class Asked:
    """Counts the tensors that were made Python's numbers all at once, in `times`."""

    def __init__(self, real):
        self.real, self.times = real, 0

    def __get__(self, tensor, kind):
        def numbers():
            self.times += 1
            return self.real(tensor)

        return numbers


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """All patches go through each step; nothing comes from numpy any more."""
    for module in (intensity, corrupt):
        monkeypatch.setattr(module, "rows_of", lambda chosen: torch.arange(len(chosen)))


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    people = synthetic.cohort(tmp_path_factory.mktemp("eight"), scans=8)
    people.subjects = [f"person{i}" for i in range(8)]
    return people


@pytest.mark.parametrize("passes", [1, 2])
def test_a_patch_step_waits_once(eight, passes, as_on_a_gpu, monkeypatch):
    stepper, loader, steps = prepared(eight, passes=passes, bn_groups=2, random_negatives=True)
    stepper(steps[0], loader(steps[0]), 0.01)  # what is kept from then on may have waited
    load = loader(steps[0])
    monkeypatch.setattr(torch, "from_numpy", lambda _: pytest.fail("what comes from the host is in the load"))
    monkeypatch.setattr(torch, "as_tensor", torch.from_numpy)
    monkeypatch.setattr(torch.Tensor, "tolist", asked := Asked(torch.Tensor.tolist))
    with Waits() as waits:
        terms = stepper(steps[0], load, 0.01)
    assert not waits.seen
    assert asked.times == 1
    assert terms["total"] > 0


@pytest.mark.parametrize("name", PRESETS)
def test_no_augmentation_waits(name, as_on_a_gpu):
    keys = sample_keys(0, 0, 0, torch.arange(3), torch.arange(3))
    patches = torch.zeros(3, *((80,) * 3 if name == "moco-v2" else (32,) * 3))
    for options in PRESETS[name]:
        some = options.model_copy(update={"shuffle_blocks": 50})
        augmented(some, patches, keys, (-1000, 200))
        with Waits() as waits:
            augmented(some, patches, keys, (-1000, 200))
        assert not waits.seen


def test_what_waits_is_noticed(eight):
    """By the ways of a CPU there are more; a mask and a list are noticed, too."""
    stepper, loader, steps = prepared(eight)
    with Waits() as waits:
        stepper(steps[0], loader(steps[0]), 0.01)
        batch = loader(steps[0]).batch
        batch.take([2, 0], (2,))
    assert {"nonzero", "index", "lift_fresh"} <= {name for name, _, _ in waits.seen}
