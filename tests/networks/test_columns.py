"""Batch norm and ELU in one pass, against torch's own in double precision."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from ctssl.networks import columns
from ctssl.networks.batchnorm import GroupedBatchNorm

SHAPES = [  # channels, edges, sizes of the groups
    (8, (8, 8, 8), [3, 2]),
    (16, (4, 4, 4), [5]),
    (64, (2, 2, 2), [2, 2, 1]),
    (5, (3, 3, 3), [3, 2]),
    (8, (5, 5, 5), [4]),
    (12, (2, 3, 7), [1, 3]),
    (130, (1, 2, 1), [2, 4]),
    (2, (4, 4, 4), [2, 1]),
]


def tensors(channels, edges, sizes, dtype):
    """Values far from mean 0 and sd 1, and a gradient, in channels_last_3d."""
    torch.manual_seed(channels)
    x = (
        torch.randn(sum(sizes), channels, *edges) * 2
        + torch.linspace(-3, 3, channels)[None, :, None, None, None]
    )
    order = torch.channels_last_3d
    return [t.to(dtype).to(memory_format=order) for t in (x, torch.randn_like(x))]


def trained(norm, x, gradient, sizes, how):
    x = x.clone().requires_grad_()
    y = how(norm, x, sizes)
    y.backward(gradient)
    return [y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.noted]


def norm_of(channels):
    norm = GroupedBatchNorm(channels)
    with torch.no_grad():
        norm.weight.uniform_(-1, 2)
        norm.bias.normal_()
    return norm


@pytest.mark.parametrize(("channels", "edges", "sizes"), SHAPES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 3e-6), (torch.bfloat16, 0.03)])
def test_values_gradients_and_statistics_are_torchs(channels, edges, sizes, dtype, bound):
    x, gradient = tensors(channels, edges, sizes, dtype)
    assert columns.fits(x)
    norm, double = norm_of(channels), GroupedBatchNorm(channels).double()
    double.load_state_dict(norm.state_dict())
    plain = [t.double().contiguous() for t in (x, gradient)]
    assert not columns.fits(plain[0])
    ours = trained(norm, x, gradient, sizes, GroupedBatchNorm.elu)
    theirs = trained(double, *plain, sizes, lambda n, v, s: functional.elu(n(v, s)))
    for name, got, expected in zip(("y", "dx", "dw", "db", "noted"), ours, theirs, strict=True):
        scale = expected.abs().max()
        assert (got.double() - expected).abs().max() <= bound * scale, name
        assert got.dtype == (dtype if name in ("y", "dx") else torch.float32)


def test_bfloat16_is_about_as_near_to_the_truth_as_torchs_own():
    x, gradient = tensors(16, (8, 8, 8), [4, 4], torch.bfloat16)
    norm, torchs, double = norm_of(16), GroupedBatchNorm(16), GroupedBatchNorm(16).double()
    torchs.load_state_dict(norm.state_dict())
    double.load_state_dict(norm.state_dict())
    plain = [t.double().contiguous() for t in (x, gradient)]

    def separate(n, v, s):
        return functional.elu(n(v, s))

    ours = trained(norm, x, gradient, [4, 4], GroupedBatchNorm.elu)
    theirs = trained(torchs, x, gradient, [4, 4], separate)
    truth = trained(double, *plain, [4, 4], separate)
    for mine, their, true in zip(ours[:2], theirs[:2], truth[:2], strict=True):
        error, usual = ((t.double() - true).square().mean().sqrt() for t in (mine, their))
        assert error < 1.5 * usual


@pytest.mark.parametrize("channels", [8, 3])
def test_known_statistics_give_torchs_values(channels):
    x, _ = tensors(channels, (4, 4, 4), [3], torch.float32)
    norm = norm_of(channels).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        ours, elu = norm(x), norm.elu(x)
    expected = functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(elu, functional.elu(expected), atol=1e-5, rtol=1e-5)
    assert norm(x.requires_grad_()).requires_grad


def test_a_network_in_evaluation_mode_still_gives_gradients_of_its_input():
    norm = norm_of(8).eval()
    x = torch.randn(2, 8, 4, 4, 4).to(memory_format=torch.channels_last_3d).requires_grad_()
    norm.elu(x).sum().backward()
    slope = norm.weight / (norm.running_var + norm.eps).sqrt()
    y = norm(x).detach()
    torch.testing.assert_close(x.grad, slope[None, :, None, None, None] * y.clamp_max(0).exp())


def test_double_precision_takes_torchs_own_way():
    x, gradient = (t.double() for t in tensors(8, (4, 4, 4), [3, 2], torch.float32))
    x, gradient = (t.to(memory_format=torch.channels_last_3d) for t in (x, gradient))
    norm = norm_of(8).double()
    ours = trained(norm, x, gradient, [3, 2], GroupedBatchNorm.elu)
    norm.zero_grad()
    norm.noted.zero_()
    plain = trained(norm, x.contiguous(), gradient, [3, 2], GroupedBatchNorm.elu)
    for got, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_second_derivative_is_refused_in_words():
    norm = norm_of(8)
    x = torch.randn(4, 8, 4, 4, 4).to(memory_format=torch.channels_last_3d).requires_grad_()
    (first,) = torch.autograd.grad(norm.elu(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_a_group_without_a_variance_is_refused():
    norm = norm_of(4)
    x = torch.randn(3, 4, 1, 1, 1).to(memory_format=torch.channels_last_3d)
    with pytest.raises(ValueError, match=r"at least 2 values a channel, but has shape \(1, 4, 1, 1, 1\)"):
        norm.elu(x, [2, 1])


FAULTS = """
import resource, sys
import torch
from ctssl.train.host import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
fresh = faults()
kept = keep_memory()
for _ in range(10):  # until the heap has its place for them
    faults()
print(int(kept), fresh, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is asked to keep memory")
def test_freed_memory_is_used_again():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, fresh, again = map(int, done.stdout.split())
    if not kept:
        pytest.skip("this C library is not glibc")
    assert fresh > 1000  # 64 MiB in pages of at most 64 KiB, five times: else the test shows nothing
    assert again < fresh / 10
