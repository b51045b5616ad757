import numpy as np
import pytest
import torch
from golden import fill
from torch import nn
from torch.nn import functional

from ctssl.networks.resnet3d import ResNet3D

PARAMETERS = {10: 14.36, 18: 32.99, 34: 63.30, 50: 46.16}
"""Millions, counted from the released files."""


@pytest.mark.parametrize("depth", PARAMETERS)
def test_sizes_are_those_of_the_release(depth):
    with torch.device("meta"):
        network = ResNet3D(depth)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(PARAMETERS[depth], abs=0.005)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    projections = [n for n, _ in network.named_modules() if n.endswith("downsample.0")]
    assert len(convolutions) - len(projections) == depth - 1  # the last of the name is a dense layer
    assert len(projections) == {10: 3, 18: 0, 34: 0, 50: 4}[depth]


@pytest.mark.parametrize("depth", [10, 50])
def test_tensor_names_are_those_of_the_release(depth):
    with torch.device("meta"):
        network = ResNet3D(depth)
    assert network.state_dict().keys() == fill.state(f"medicalnet_resnet{depth}").keys()


@torch.no_grad()
def test_trap_16_strides_in_place_of_dilation_give_other_features():
    """Such a network takes the same weights without a word."""
    network = ResNet3D(10)
    network.load_state_dict(fill.state("medicalnet_resnet10"))
    network.eval()
    x, golden = fill.box(2, 32, 48, 40), fill.outputs("medicalnet_resnet10")["features"]
    np.testing.assert_allclose(network.features(x).numpy(), golden, rtol=1e-4, atol=1e-6)
    for layer in (network.layer3, network.layer4):
        first = layer[0]
        first.conv1.stride = first.downsample[0].stride = (2, 2, 2)
        for convolution in (first.conv1, first.conv2):
            convolution.dilation = convolution.padding = (1, 1, 1)
    assert np.abs(network.features(x).numpy() - golden).max() > 100 * 1e-4 * np.abs(golden).max()


@torch.no_grad()
def test_the_last_two_layers_keep_the_size():
    network = ResNet3D(18).eval()
    assert network(torch.rand(1, 1, 33, 40, 17)).shape == (1, 512, 5, 5, 3)


@torch.no_grad()
def test_a_shortcut_of_type_a_leaves_voxels_out_and_adds_channels_of_zeros():
    network = ResNet3D(34).eval()
    block, x = network.layer2[0], torch.randn(1, 64, 5, 6, 4)
    y = functional.relu(block.bn1(block.conv1(x)))
    y = block.bn2(block.conv2(y)).numpy()
    y[:, :64] += functional.avg_pool3d(x, 1, stride=2).numpy()  # as the release says it
    np.testing.assert_allclose(block(x).numpy(), y.clip(0), rtol=1e-5, atol=1e-6)
