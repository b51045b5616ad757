import numpy as np
import pytest
import torch
from golden import fill
from torch.nn import functional

from ctssl.networks.batchnorm import settle
from ctssl.networks.unet3d import UNet3D


def test_sizes_and_names_are_those_of_the_release():
    with torch.device("meta"):
        network = UNet3D()
    count = {name: p.numel() for name, p in network.named_parameters()}
    assert sum(count.values()) == 19_073_665
    assert sum(n for name, n in count.items() if name.startswith("down")) == 7_027_776
    released = fill.state("models_genesis_running")
    assert {n: t.shape for n, t in network.state_dict().items()} == {n: t.shape for n, t in released.items()}


@torch.no_grad()
@pytest.mark.parametrize("batch_statistics", [True, False])
def test_what_else_is_in_a_batch_counts_with_batch_statistics_only(batch_statistics):
    network = UNet3D(batch_statistics=batch_statistics).eval()
    x = torch.rand(3, 1, 16, 16, 8)
    alone, together = network.bottleneck(x[:1]), network.bottleneck(x)[:1]
    assert torch.allclose(alone, together, atol=1e-5) != batch_statistics
    before = network.down_tr64.ops[0].bn1.running_mean.clone()
    network(x)
    assert torch.equal(before, network.down_tr64.ops[0].bn1.running_mean)


@torch.no_grad()
def test_the_output_is_that_of_the_layers_one_by_one():
    """Skips, their order and the pooling, written once more."""
    net, x = UNet3D().eval(), torch.rand(1, 1, 8, 16, 24)

    def twice(level, x):
        for op in level.ops:
            x = functional.relu(op.bn1(op.conv1(x)))
        return x

    first = twice(net.down_tr64, x)
    second = twice(net.down_tr128, functional.max_pool3d(first, 2))
    third = twice(net.down_tr256, functional.max_pool3d(second, 2))
    low = twice(net.down_tr512, functional.max_pool3d(third, 2))
    assert low.shape == (1, 512, 1, 2, 3)
    torch.testing.assert_close(net.bottleneck(x), low)
    for up, skip in ((net.up_tr256, third), (net.up_tr128, second), (net.up_tr64, first)):
        low = twice(up, torch.cat([up.up_conv(low), skip], 1))
    np.testing.assert_allclose(
        net(x).numpy(), 1 / (1 + np.exp(-net.out_tr.final_conv(low).numpy())), rtol=1e-5
    )


def test_running_statistics_move_when_they_are_settled():
    network = UNet3D().train()
    network(torch.rand(2, 1, 16, 16, 16))
    norm = network.down_tr64.ops[0].bn1
    assert norm.num_batches_tracked == 0
    settle(network, lambda tensor: tensor)
    assert norm.num_batches_tracked == 1
    assert norm.running_mean.abs().sum() > 0


@pytest.mark.parametrize("extent", [(12, 16, 16), (16, 16, 4), (7, 8, 8)])
def test_sides_that_cannot_be_halved_three_times_are_refused(extent):
    with pytest.raises(ValueError, match="multiple of 8 voxels"):
        UNet3D().bottleneck(torch.rand(1, 1, *extent))


def test_small_maps_stay_in_float32():
    """oneDNN's bfloat16 weight gradient of maps of 2^3 reads memory that nobody wrote."""
    network = UNet3D()
    with torch.autocast("cpu", torch.bfloat16):
        found = network.bottleneck(torch.rand(2, 1, 16, 16, 16))
    assert found.dtype == torch.float32
    found.sum().backward()
    gradients = [p.grad for n, p in network.named_parameters() if n.startswith("down")]
    assert all(torch.isfinite(gradient).all() and gradient.abs().max() < 1e6 for gradient in gradients)
