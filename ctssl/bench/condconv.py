"""What conditioned convolutions cost beside plain ones, and beside the released loop over samples."""

import os
import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.networks.batchnorm import group_sizes
from ctssl.networks.conditioned import ConditionedConv3d, ConditionedEncoder
from ctssl.networks.conv3d import PatchEncoder
from ctssl.train.device import pick_device
from ctssl.train.host import keep_memory

FEATURES, EXPERTS, GROUPS = 128, 8, 4


def bench_condconv(device: Literal["cpu", "cuda"], batch: int, steps: int) -> dict[str, Any]:
    """Patches a second, forward and back by bfloat16, of one trunk in three kinds.

    Conditioned: each layer's kernel is mixed once for the batch, whose patches are of one landmark. Plain:
    no experts. Loop: a kernel and a convolution for each patch, as released. The kinds take turns and the
    fastest step of each counts, since a shared machine only takes away.

    Args:
        device: of the networks.
        batch: patches of 32 voxels in a step.
        steps: of each kind; a fifth as many of the loop.
    """
    where = pick_device(device)
    keep_memory()
    torch.manual_seed(0)
    patches = torch.randn(batch, 1, 32, 32, 32, device=where).contiguous(memory_format=torch.channels_last_3d)
    place = torch.tensor([[0.3, -0.4, 0.8]], device=where)
    groups = group_sizes(batch, GROUPS)
    plain = PatchEncoder(FEATURES, 2, conditional=False)
    conditioned, loop = (ConditionedEncoder(FEATURES, EXPERTS) for _ in range(2))
    _released(loop)
    kinds: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {
        "conditioned": (conditioned, lambda: conditioned(patches, place, groups)),
        "plain": (plain, lambda: plain(patches, place.expand(batch, 3), groups)),
        "loop": (loop, lambda: loop(patches, place, groups)),
    }
    seconds = dict.fromkeys(kinds, float("inf"))
    for network, _ in kinds.values():
        network.to(device=where, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    for step in range(steps + 1):  # the first one warms up
        for kind, (network, forward) in kinds.items():
            if kind == "loop" and step > 1 and step % 5:
                continue
            took = _step(network, forward, where)
            seconds[kind] = min(seconds[kind], took if step else float("inf"))
    rates = {kind: batch / second for kind, second in seconds.items()}
    return {
        **{f"{kind}_patches_per_s": round(rate, 2) for kind, rate in rates.items()},
        "conditioned_of_plain": round(rates["conditioned"] / rates["plain"], 3),
        "loop_of_plain": round(rates["loop"] / rates["plain"], 3),
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "batch": batch,
        "experts": EXPERTS,
        "steps": steps,
        "torch_threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _step(network: nn.Module, forward: Callable[[], Tensor], device: torch.device) -> float:
    """Seconds of a pass forward and back."""
    network.zero_grad(set_to_none=True)
    start = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16):
        out = forward()
    out.float().square().mean().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


class _Loop(nn.Module):
    """The released layer: for each sample its own kernel and its own convolution.

    Source: batmanlab/DrasCLR@899e313.
    """

    def __init__(self, layer: ConditionedConv3d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """As ConditionedConv3d."""
        each = zip(x.split(1), places.expand(len(x), 3).split(1), strict=True)
        layer = self.layer
        made = [functional.conv3d(one, layer.kernels(p)[0], layer.bias, layer.stride, 1) for one, p in each]
        return torch.cat(made)


def _released(encoder: ConditionedEncoder) -> None:
    """Nothing; puts the loop in place of each conditioned convolution."""
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ConditionedConv3d):
                setattr(parent, name, _Loop(child))
