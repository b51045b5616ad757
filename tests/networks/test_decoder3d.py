import pytest
import torch
from torch import nn
from torch.nn import functional

from ctssl.networks.batchnorm import GroupedBatchNorm
from ctssl.networks.conv3d import PatchEncoder
from ctssl.networks.decoder3d import PatchDecoder


def convolutions(network):
    """In order of their use: channels in, channels out, whether the size changes."""
    kinds = nn.Conv3d | nn.ConvTranspose3d
    found = [m for m in network.modules() if isinstance(m, kinds)]
    return [(m.in_channels, m.out_channels, m.stride[0]) for m in found]


def test_it_is_the_trunk_in_reverse():
    trunk = convolutions(PatchEncoder(128, 2, conditional=False))
    assert len(trunk) == 13
    assert convolutions(PatchDecoder(128, 32)) == [(b, a, stride) for a, b, stride in reversed(trunk)]


@pytest.mark.parametrize("edge", [16, 18, 30, 32, 46, 64])
def test_patches_have_the_edge_that_was_asked_for(edge):
    """Of any even number from 16 to 64, as an atlas may have."""
    encoder, decoder = PatchEncoder(4, 2, conditional=False), PatchDecoder(4, edge)
    patches = torch.randn(4, 1, edge, edge, edge)
    assert decoder(encoder.trunk(patches)).shape == patches.shape


def in_plain_torch(decoder, x):
    """The same layer by layer, with output_padding written out, for an edge that is a power of 2."""
    x = functional.linear(x, decoder.spread.weight, decoder.spread.bias)
    x = x.reshape(len(x), -1, 1, 1, 1)
    for stage in decoder.stages:
        grow = stage.grow
        x = functional.conv_transpose3d(x, grow.weight, grow.bias, stride=2, padding=1, output_padding=1)
        layers = [None, *stage.convolutions]
        for convolution, norm in zip(layers, stage.norms, strict=True):
            x = x if convolution is None else functional.conv3d(x, convolution.weight, convolution.bias, 1, 1)
            mean, variance = x.mean((0, 2, 3, 4)), x.var((0, 2, 3, 4), correction=0)
            x = functional.batch_norm(x, mean, variance, norm.weight, norm.bias, eps=norm.eps)
            x = torch.where(x > 0, x, x.exp() - 1)
    return functional.conv3d(x, decoder.last.weight, decoder.last.bias, padding=1)


def test_layers_are_those_of_plain_torch():
    decoder = PatchDecoder(8, 32)
    with torch.no_grad():
        for norm in (m for m in decoder.modules() if isinstance(m, GroupedBatchNorm)):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
        x = torch.randn(5, 8)
        torch.testing.assert_close(decoder(x), in_plain_torch(decoder, x), rtol=1e-3, atol=1e-4)


def test_groups_have_their_own_statistics():
    decoder, x = PatchDecoder(4, 16), torch.randn(9, 4)
    whole = decoder(x, (5, 4))
    torch.testing.assert_close(whole[:5], decoder(x[:5]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole[5:], decoder(x[5:]), rtol=1e-4, atol=1e-4)


def test_gradients_in_bfloat16_are_those_of_float32():
    """Stride-1 convolutions of maps of 2^3 would give others on the CPU."""
    decoder, x, wanted = PatchDecoder(16, 32), torch.randn(8, 16), torch.randn(8, 1, 32, 32, 32)
    decoder.to(memory_format=torch.channels_last_3d)
    found = {}
    for low in (False, True):
        decoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            made = decoder(x)
        (made.float() * wanted).mean().backward()
        found[low] = {n: p.grad.clone() for n, p in decoder.named_parameters() if n.endswith("weight")}
    for name, exact in found[False].items():
        if exact.norm() > 1e-6:
            assert (found[True][name] - exact).norm() < 0.1 * exact.norm(), name
