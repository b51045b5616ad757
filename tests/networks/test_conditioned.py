import numpy as np
import pytest
import torch
from golden import fill
from torch import nn
from torch.nn import functional

from ctssl.networks.conditioned import ConditionedConv3d, ConditionedEncoder
from ctssl.networks.conv3d import PatchEncoder

GOLDEN = fill.outputs("drasclr")


@pytest.fixture
def released():
    encoder = ConditionedEncoder(128, 8)
    encoder.load_state_dict(fill.state("drasclr"), strict=True)
    return encoder.eval()


def places(count):
    return fill.coordinates(count) * 2 - 1


@torch.no_grad()
def test_released_weights_give_the_released_outputs(released):
    """Six patches at six places, in one call."""
    features = released.trunk(fill.volume(6), places(6))
    np.testing.assert_allclose(features.numpy(), GOLDEN["features"], rtol=1e-4, atol=1e-6)
    projection = released(fill.volume(6), places(6))
    np.testing.assert_allclose(projection.numpy(), GOLDEN["projection"], rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("number", range(6))
def test_one_place_for_all_is_that_place_for_each(released, number):
    """In either order of memory: the path of training, one kernel a layer."""
    for order in (torch.contiguous_format, torch.channels_last_3d):
        patches = fill.volume(6).contiguous(memory_format=order)
        features = released.trunk(patches, places(6)[number : number + 1])
        np.testing.assert_allclose(features[number].numpy(), GOLDEN["features"][number], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_trap_4_places_are_x_y_z_and_reach_the_output(released):
    turned = released.trunk(fill.volume(6), places(6).flip(1)).numpy()
    assert np.abs(turned - GOLDEN["features"]).max() > 1e-2


def test_sizes_and_names_are_those_of_the_release(released):
    trunk = sum(p.numel() for n, p in released.named_parameters() if not n.startswith("fc."))
    assert trunk == 8_229_248
    names = list(released.state_dict())
    assert len(names) == 121
    assert {"downsample2.conv3._routing_fn.fc.weight", "downsample2.bn3.running_var"} <= set(names)


def test_a_kernel_is_the_sum_of_experts_by_sigmoids():
    torch.manual_seed(0)
    layer = ConditionedConv3d(2, 3, 1, 4)
    place = torch.tensor([[0.3, -1.0, 0.7]])
    a, c = layer._routing_fn.fc.weight.detach().numpy(), layer._routing_fn.fc.bias.detach().numpy()
    shares = 1 / (1 + np.exp(-(a @ place[0].numpy() + c)))
    expected = sum(s * w for s, w in zip(shares, layer.weight.detach().numpy(), strict=True))
    np.testing.assert_allclose(layer.kernels(place)[0].detach().numpy(), expected, rtol=1e-5, atol=1e-7)


def test_each_expert_starts_as_a_plain_convolution_does():
    """The fan-in is that of one expert: 16 inputs of 27 weights, whatever the outputs (section 2.5)."""
    torch.manual_seed(0)
    plain = nn.Conv3d(16, 64, 3)
    layer = ConditionedConv3d(16, 64, 1, 8)
    limit = 1 / np.sqrt(16 * 27)
    for values in (t.detach() for t in (plain.weight, *layer.weight, plain.bias, layer.bias)):
        assert values.abs().max() <= limit
        assert float(values.std()) == pytest.approx(limit / np.sqrt(3), rel=0.1 if len(values) < 65 else 0.02)


def test_experts_of_equal_kernels_are_the_plain_trunk():
    """With r = 1/8 each and eight times the same kernel, nothing but the plain encoder is left."""
    torch.manual_seed(0)
    plain = PatchEncoder(16, 2, conditional=False)
    encoder = ConditionedEncoder(16, 8)
    convolutions = [m for m in plain.modules() if isinstance(m, nn.Conv3d)]
    for (layer, _), convolution in zip(encoder.layers(), convolutions, strict=True):
        with torch.no_grad():
            layer.weight.copy_(convolution.weight.expand_as(layer.weight))
            layer.bias.copy_(convolution.bias)
            layer._routing_fn.fc.weight.zero_()
            layer._routing_fn.fc.bias.fill_(-np.log(7))
    x = fill.volume(4)
    got = encoder.trunk(x, torch.zeros(1, 3), [2, 2])
    torch.testing.assert_close(got, plain.trunk(x, [2, 2]), rtol=1e-3, atol=1e-4)
    got.square().sum().backward()
    plain.zero_grad()
    plain.trunk(x, [2, 2]).square().sum().backward()
    for (layer, _), convolution in zip(encoder.layers(), convolutions, strict=True):
        scale = convolution.weight.grad.abs().max()
        assert (layer.weight.grad.sum(0) - convolution.weight.grad).abs().max() < 1e-3 * scale


def test_gradients_of_many_places_are_those_of_each_alone():
    torch.manual_seed(0)
    layer = ConditionedConv3d(2, 4, 2, 3)
    x, where = torch.randn(5, 2, 6, 6, 6), torch.rand(5, 3) * 2 - 1
    layer(x, where).square().sum().backward()
    together = {n: p.grad.clone() for n, p in layer.named_parameters()}
    layer.zero_grad()
    for one, place in zip(x.split(1), where.split(1), strict=True):
        layer(one, place).square().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, together[name], rtol=1e-4, atol=1e-5)


def gradients(precision, edge=32):
    torch.manual_seed(0)
    encoder = ConditionedEncoder(128, 8).to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        out = encoder(torch.randn(8, 1, edge, edge, edge), torch.tensor([[0.5, -0.2, 1.0]]), [4, 4])
    (out.float() * torch.randn(8, 128)).sum().backward()
    return {name: p.grad for name, p in encoder.named_parameters() if name.endswith("conv1.weight")}


@pytest.mark.parametrize("edge", [16, 32])
def test_bf16_gradients_are_those_of_fp32_and_repeat_bit_for_bit(edge):
    """Kernels are mixed in float32, and maps of 2^3 voxels stay in it."""
    exact, low = gradients("fp32", edge), gradients("bf16", edge)
    for name, gradient in exact.items():
        cosine = torch.cosine_similarity(gradient.flatten(), low[name].flatten(), dim=0)
        assert cosine > 0.9, name
    torch.full((200_000,), 1e30)  # what a later allocation may find
    again = gradients("bf16", edge)
    assert all(torch.equal(again[name], low[name]) for name in low)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_places_that_are_neither_one_nor_one_each_are_refused(count):
    encoder = ConditionedEncoder(16, 2).eval()
    with pytest.raises(ValueError, match=r"4 patches need \(1, 3\) or \(4, 3\) places"):
        encoder.trunk(fill.volume(4), torch.zeros(count, 3))


@torch.no_grad()
def test_one_expert_is_a_plain_convolution_scaled():
    layer = ConditionedConv3d(1, 2, 1, 1)
    x, place = torch.randn(2, 1, 5, 5, 5), torch.zeros(1, 3)
    share = torch.sigmoid(layer._routing_fn.fc.bias)
    expected = functional.conv3d(x, layer.weight[0] * share, layer.bias, padding=1)
    torch.testing.assert_close(layer(x, place), expected)
