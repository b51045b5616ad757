import pytest
import torch

from ctssl.bench import condconv
from ctssl.networks.conditioned import ConditionedConv3d, ConditionedEncoder


def test_each_kind_is_measured():
    values = condconv.bench_condconv("cpu", batch=8, steps=1)
    for kind in ("conditioned", "plain", "loop"):
        assert values[f"{kind}_patches_per_s"] > 0
    ratio = values["conditioned_patches_per_s"] / values["plain_patches_per_s"]
    assert values["conditioned_of_plain"] == pytest.approx(ratio, rel=0.02)


@torch.no_grad()
def test_the_loop_computes_the_same():
    """A slow way to the same numbers, or the comparison says nothing."""
    torch.manual_seed(0)
    encoder = ConditionedEncoder(16, 3)
    patches, place = torch.randn(4, 1, 32, 32, 32), torch.rand(1, 3)
    expected = encoder.eval()(patches, place)
    condconv._released(encoder)
    layers = [m for m in encoder.modules() if isinstance(m, condconv._Loop)]
    assert len(layers) == 13
    assert not any(isinstance(m, ConditionedConv3d) for m in encoder.children())
    torch.testing.assert_close(encoder(patches, place), expected, rtol=1e-3, atol=1e-4)
