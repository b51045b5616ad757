import numpy as np
import pytest
import torch
from golden import fill
from torch import nn

from ctssl.networks.conv3d import PatchEncoder


@pytest.fixture
def released():
    encoder = PatchEncoder(128, 2, conditional=True)
    encoder.load_state_dict(fill.state("context_aware_patch"), strict=True)
    return encoder.eval()


@torch.no_grad()
def test_released_weights_give_the_released_outputs(released):
    golden = fill.outputs("context_aware_patch")
    features = released.trunk(fill.volume(6))
    np.testing.assert_allclose(features.numpy(), golden["features"], rtol=1e-4, atol=1e-6)
    projection = released(fill.volume(6), fill.coordinates(6))
    np.testing.assert_allclose(projection.numpy(), golden["projection"], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_trap_4_arrays_are_z_y_x_and_coordinates_x_y_z(released):
    """A network fed with the other order gives other numbers than the released one."""
    golden = fill.outputs("context_aware_patch")
    for one, other in ((2, 3), (2, 4), (3, 4)):
        turned = released.trunk(fill.volume(6).transpose(one, other)).numpy()
        assert np.abs(turned - golden["features"]).max() > 5e-4
    features = torch.from_numpy(golden["features"])
    flipped = released.project(features, fill.coordinates(6).flip(1)).numpy()
    assert np.abs(flipped - golden["projection"]).max() > 5e-3


def test_sizes_are_those_of_the_release():
    encoder = PatchEncoder(128, 2, conditional=True)
    assert sum(isinstance(m, nn.Conv3d) for m in encoder.modules()) == 13
    head = sum(p.numel() for p in encoder.fc.parameters())
    assert head == 34_188
    assert sum(p.numel() for p in encoder.parameters()) - head == 1_030_200


def test_heads_of_the_paper_and_without_location():
    paper = PatchEncoder(16, 3, conditional=True)
    assert [tuple(m.weight.shape) for m in paper.fc if isinstance(m, nn.Linear)] == [
        (19, 19),
        (19, 19),
        (16, 19),
    ]
    blind = PatchEncoder(16, 2, conditional=False).eval()
    x = fill.volume(2)
    assert torch.equal(blind(x, torch.zeros(2, 3)), blind(x, torch.ones(2, 3)))


@torch.no_grad()
@pytest.mark.parametrize("edge", [16, 24, 48, 64])
def test_patches_of_other_sizes_give_the_mean_over_what_is_left(released, edge):
    volume = torch.rand(2, 1, edge, edge, edge, generator=torch.Generator().manual_seed(1)) * 2 - 1
    x = volume
    for conv, norm in ((released.conv1, released.bn1), (released.conv2, released.bn2)):
        x = nn.functional.elu(norm(conv(x)))
    x = released.downsample3(released.downsample2(released.downsample1(x)))
    for conv, norm in ((released.conv3, released.bn3), (released.conv4, released.bn4)):
        x = nn.functional.elu(norm(conv(x)))
    assert x.shape[2:] == (-(-edge // 32),) * 3
    np.testing.assert_allclose(
        released.trunk(volume).numpy(), x.numpy().mean((2, 3, 4)), rtol=1e-5, atol=1e-6
    )


def gradients(precision, edge=32):
    torch.manual_seed(0)
    encoder = PatchEncoder(128, 2, conditional=True).to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        out = encoder(torch.randn(8, 1, edge, edge, edge), torch.rand(8, 3), [4, 4])
    (out.float() * torch.randn(8, 128)).sum().backward()
    return {name: p.grad for name, p in encoder.named_parameters() if name.endswith("weight")}


@pytest.mark.parametrize("edge", [16, 24, 32])
def test_bf16_gradients_are_those_of_fp32_and_repeat_bit_for_bit(edge):
    """oneDNN's bfloat16 weight gradient on 2^3 maps holds what lay in memory: such layers are float32."""
    exact, low = gradients("fp32", edge), gradients("bf16", edge)
    for name, gradient in exact.items():
        cosine = torch.cosine_similarity(gradient.flatten(), low[name].flatten(), dim=0)
        assert cosine > 0.9, name
    for size in (10_000, 200_000, 400_000):
        torch.full((size,), 1e30)  # what a later allocation may find
        again = gradients("bf16", edge)
        assert all(torch.equal(again[name], low[name]) for name in low)
