import torch

from ctssl.networks.projector import Projector
from ctssl.networks.pyramid import Pyramid


def test_the_pyramid_halves_and_doubles():
    network = Pyramid(4)
    shapes = []
    for module in (network.bn1, *network.halvings):
        module.register_forward_hook(lambda _, __, made: shapes.append(tuple(made.shape)))
    assert network.eval()(torch.rand(2, 1, 32, 16, 48)).shape == (2, 60)
    assert shapes == [(2, 4, 16, 8, 24), (2, 8, 8, 4, 12), (2, 16, 4, 2, 6), (2, 32, 2, 1, 3)]


def test_gradients_of_small_crops_in_bfloat16_are_near_those_in_float32():
    """The lowest maps of crops of 16 voxels would have wrong ones."""
    torch.manual_seed(2)
    network = Pyramid(8).to(memory_format=torch.channels_last_3d)
    x = torch.rand(12, 1, 16, 16, 16).contiguous(memory_format=torch.channels_last_3d)
    found = []
    for half in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = network(x)
        (out * torch.linspace(-1, 1, 120)).sum().backward()
        found.append([p.grad.clone() for p in network.parameters() if p.dim() > 1])
    for exact, rough in zip(*found, strict=True):
        assert torch.nn.functional.cosine_similarity(exact.flatten(), rough.flatten(), dim=0) > 0.98


def test_the_projector_is_three_dense_layers_with_norms_between():
    projector, x = Projector(6, 5), torch.randn(9, 6)
    found = projector(x, [4, 5])
    expected = []
    for part in x.split([4, 5]):
        for dense in (projector.dense1, projector.dense2):
            part = dense(part)
            part = ((part - part.mean(0)) / (part.var(0, correction=0) + 1e-5).sqrt()).relu()
        expected.append(projector.dense3(part))
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)
