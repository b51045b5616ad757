import numpy as np
import pytest
import torch
from methods.test_pcrl import array, weights

from ctssl.networks.indicated import Head, Multiplicative, Outer


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def told(w, vectors):
    hidden = np.maximum(vectors @ w["aug_fc1.weight"].T + w["aug_fc1.bias"], 0)
    return hidden @ w["aug_fc2.weight"].T + w["aug_fc2.bias"]


def test_released_attention_is_a_sigmoid_of_two_dense_layers_of_the_indicators():
    module, maps, vectors = Multiplicative(8), torch.randn(3, 8, 2, 3, 4), torch.rand(3, 7)
    factors = sigmoid(told(weights(module), array(vectors)))
    found = array(module(maps, vectors))
    np.testing.assert_allclose(found, array(maps) * factors[:, :, None, None, None], rtol=1e-5, atol=1e-6)


def test_the_papers_attention_is_that_of_an_outer_product():
    """Equations 1 to 4; the convolution as sums over shifted maps."""
    module, maps, vectors = Outer(4), torch.randn(3, 4, 3, 4, 5), torch.rand(3, 7)
    w, x = weights(module), array(maps)
    outer = np.einsum("bi,bj->bij", told(w, array(vectors)), x.mean((2, 3, 4)))
    factors = sigmoid(np.maximum(outer.reshape(3, 16) @ w["outer.weight"].T, 0))
    assert w["outer.weight"].shape == (4, 16)
    assert ((factors >= 0.5) & (factors < 1)).all()
    padded = np.pad(x * factors[:, :, None, None, None], [(0, 0), (0, 0), (1, 1), (1, 1), (1, 1)])
    expected = np.zeros_like(x) + w["conv.bias"][:, None, None, None]
    for a, b, c in np.ndindex(3, 3, 3):
        part = padded[:, :, a : a + 3, b : b + 4, c : c + 5]
        expected += np.einsum("oi,bizyx->bozyx", w["conv.weight"][:, :, a, b, c], part)
    np.testing.assert_allclose(array(module(maps, vectors)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["multiplicative", "outer"])
def test_attention_and_projections_in_bfloat16_are_near_those_in_float32(attention):
    head, maps, vectors = Head(attention, 16, 8), torch.randn(4, 16, 2, 2, 2), torch.rand(4, 7)
    found = []
    for half in (False, True):
        head.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = head.project(head.attention(maps.bfloat16() if half else maps, vectors))
        assert out.dtype == torch.float32
        (out * torch.linspace(-1, 1, 8)).sum().backward()
        found.append([p.grad.clone() for p in head.parameters()])
    for exact, rough in zip(*found, strict=True):
        torch.testing.assert_close(exact, rough, rtol=0.1, atol=0.02)
