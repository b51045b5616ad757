import pytest
import torch
from torch import nn

from ctssl.networks.batchnorm import GroupedBatchNorm, group_sizes, settle


def alone(values):
    return values


@pytest.mark.parametrize("samples", range(1, 40))
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_group_sizes_cover_the_batch_and_none_is_tiny(samples, groups):
    sizes = group_sizes(samples, groups)
    assert sum(sizes) == samples
    assert len(sizes) <= groups
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(4, samples)


@pytest.mark.parametrize("shape", [(7, 5), (6, 5, 2, 3, 4)])
def test_one_group_is_torchs_batch_norm(shape):
    ours = GroupedBatchNorm(5)
    torchs = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm3d)(5)
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x), torchs(x))
    settle(ours, alone)
    torch.testing.assert_close(ours.state_dict(), torchs.state_dict())
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(x))


def test_groups_are_normalised_alone_and_running_statistics_are_their_mean():
    x = torch.randn(13, 4, 2, 2, 2) * torch.arange(1, 14)[:, None, None, None, None]
    ours = GroupedBatchNorm(4)
    out = ours(x, [5, 4, 4])
    settle(ours, alone)
    means, variances = [], []
    for part, got in zip(x.split([5, 4, 4]), out.split([5, 4, 4]), strict=True):
        mean, var = part.mean((0, 2, 3, 4)), part.var((0, 2, 3, 4), unbiased=False)
        view = (1, 4, 1, 1, 1)
        expected = (part - mean.view(view)) / (var.view(view) + 1e-5).sqrt()
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
        means.append(mean)
        variances.append(part.var((0, 2, 3, 4)))
    torch.testing.assert_close(ours.running_mean, 0.1 * torch.stack(means).mean(0))
    torch.testing.assert_close(ours.running_var, 0.9 + 0.1 * torch.stack(variances).mean(0))
    assert int(ours.num_batches_tracked) == 1


def test_a_lone_value_is_refused():
    norm = GroupedBatchNorm(3)
    with pytest.raises(ValueError, match="at least 2 values a channel"):
        norm(torch.randn(1, 3, 1, 1, 1))
    with pytest.raises(ValueError, match="at least 2 values a channel"):
        norm(torch.randn(3, 3), sizes=[2, 1])
    assert norm(torch.randn(2, 3, 1, 1, 1)).shape == (2, 3, 1, 1, 1)


def test_passes_and_devices_move_the_running_statistics_as_one_batch_would():
    x = torch.randn(12, 4) * torch.arange(1, 13)[:, None]
    whole, first, second = GroupedBatchNorm(4), GroupedBatchNorm(4), GroupedBatchNorm(4)
    whole(x, [4, 4, 4])
    settle(whole, alone)
    first(x[:4])
    second(x[4:8])
    second(x[8:])
    theirs = torch.cat([second.noted.flatten()])
    settle(first, lambda noted: noted + theirs)
    torch.testing.assert_close(first.state_dict(), whole.state_dict())
    settle(first, alone)
    assert int(first.num_batches_tracked) == 1, "nothing was noted since"
