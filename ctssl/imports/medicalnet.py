"""MedicalNet: one file of a backbone; the depth is read from it.

Source: Tencent/MedicalNet@20f76aa.
"""

from collections.abc import Sequence

from ctssl.errors import WeightsError
from ctssl.imports import Converted
from ctssl.imports.state import State, one
from ctssl.networks.resnet3d import BLOCKS

_HEAD = {r"conv_seg\.": "segmentation head"}


def convert(states: Sequence[State]) -> Converted:
    """The tensors of the backbone and its depth.

    Raises:
        WeightsError: it is of no depth that MedicalNet has here.
    """
    state = one(states).without(_HEAD)
    depth = _depth(state)
    tensors = {f"network.{name}": tensor for name, tensor in state.tensors.items()}
    return Converted({"depth": depth}, tensors, state.dropped)


def _depth(state: State) -> int:
    """Read from the number of blocks in each layer, and whether a block has three convolutions."""
    counted = tuple(_blocks(state, number) for number in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in state.tensors
    for depth, blocks in BLOCKS.items():
        if blocks == counted and (depth == 50) == bottleneck:
            return depth
    raise WeightsError(
        f"{state.path} has {counted} blocks in its four layers, as no MedicalNet of depth 10, 18, 34 or 50",
        "name a file such as resnet_50_23dataset.pth",
    )


def _blocks(state: State, layer: int) -> int:
    """Those of a layer that are numbered without a gap."""
    number = 0
    while f"layer{layer}.{number}.conv1.weight" in state.tensors:
        number += 1
    return number
