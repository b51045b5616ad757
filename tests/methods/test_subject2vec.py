"""subject2vec: sets of patches of any size; attention and losses in numpy."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from golden import fill_supervised
from scipy.special import expit
from scipy.special import softmax as scipy_softmax
from torch import nn

from ctssl.config.methods import Subject2Vec as Options
from ctssl.errors import CohortError
from ctssl.methods.subject2vec import HIDDEN, Subject2Vec, patch_groups
from ctssl.networks.patchset import SetAttention, SetEncoder
from ctssl.train.batches import Cohort, read_batch, scan_sample
from ctssl.train.labels import Task

OPTIONS = Options(feature_size=16, scan_batch=4, dropout=0)


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    return fill_supervised.eight(tmp_path_factory.mktemp("eight"))


def batch_of(people, scans, groups=None):
    """Scans 1 and 2 show five and four landmarks, others six."""
    cohort, scans = Cohort.of(people.stores, people.subjects), np.array(scans)
    sample = scan_sample(cohort, scans)
    batch = read_batch(people.stores, cohort, sample).drawn(sample, 0, 0, 0)
    targets = torch.linspace(-1, 1, len(scans))
    return replace(batch, targets=targets, groups=groups or (len(scans),))


def built(people, options=OPTIONS, task=Task()):  # noqa: B008, frozen
    torch.manual_seed(2)
    return Subject2Vec.build(options, people.atlas, task).to(memory_format=torch.channels_last_3d)


def attention_in_numpy(layer, members):
    """(n,) of one set (n, F)."""
    x = members
    for dense in (layer.first, layer.second):
        weight, bias = dense.weight.detach().numpy(), dense.bias.detach().numpy()
        x = expit((x - x.max(0)) @ weight.T + bias)
    return scipy_softmax(x[:, 0])


def test_the_encoder_has_14_convolutions_and_halves_five_times():
    encoder = SetEncoder(128)
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv3d)]
    widths = [8, 8, *[16] * 3, *[32] * 3, *[64] * 3, *[128] * 3]
    assert [c.out_channels for c in convolutions] == widths
    assert all(a.out_channels == b.in_channels for a, b in pairwise(convolutions))
    assert [c.stride[0] for c in convolutions] == [1, 2] + [1, 1, 2] * 4
    assert encoder.eval()(torch.zeros(2, 1, 32, 32, 32)).shape == (2, 128)


def test_attention_is_that_of_the_formula_in_each_set():
    torch.manual_seed(0)
    layer, members = SetAttention(5, HIDDEN), torch.randn(9, 5)
    found = layer(members, [4, 1, 4]).detach().numpy()
    for part in (slice(0, 4), slice(4, 5), slice(5, 9)):
        np.testing.assert_allclose(found[part], attention_in_numpy(layer, members[part].numpy()), rtol=1e-5)
        assert found[part].sum() == pytest.approx(1)


def test_the_loss_is_that_of_the_formula(eight):
    """Labels, 10 times the error of patches, 1e-4 times the logarithms of attention; scans count alike."""
    method, batch = built(eight), batch_of(eight, [0, 1, 2])
    found = {name: float(value.detach()) for name, value in method.label_loss(batch, None).items()}
    network, decoder = method.network, method.decoder
    with torch.no_grad():
        x = ((batch.patches.float().clamp(-1024, 240) + 1024) / 1264)[:, None]
        encoded = network.encoder(x)
        errors = ((decoder(encoded) - x) ** 2).mean((1, 2, 3, 4)).numpy()
    weight, bias = (p.detach().numpy() for p in network.share.parameters())
    labels, errors_of, logs = [], [], []
    for number, part in enumerate(np.split(np.arange(15), np.cumsum([6, 5]))):
        members = encoded.numpy()[part]
        alpha = attention_in_numpy(network.attention, members)
        z = alpha[:, None] * members @ weight.T + bias
        vector = np.where(z > 0, z, np.expm1(z)).sum(0)
        said = vector @ network.outputs.weight.detach().numpy()[0]
        labels.append((said - (-1, 0, 1)[number]) ** 2)
        errors_of.append(errors[part].mean())
        logs.append(np.log(alpha + 1e-4).sum())
    wanted = {
        "labels": np.mean(labels),
        "reconstruction": 10 * np.mean(errors_of),
        "attention": 1e-4 * np.mean(logs),
    }
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=2e-4), name
    assert found["total"] == pytest.approx(sum(wanted.values()), rel=2e-4)


def test_the_decoder_learns_and_is_not_kept(eight):
    method = built(eight)
    [phase] = method.phases()
    ids = {id(p) for p in phase.parameters}
    assert {id(p) for p in method.decoder.parameters()} < ids
    method.label_loss(batch_of(eight, [0, 3]), None)["total"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in phase.parameters)
    assert not any("decoder" in name for name in method.query.state_dict())


def test_any_order_and_number_of_patches(eight):
    network = built(eight).network
    both, alone = network.predict(batch_of(eight, [1, 2])), network.predict(batch_of(eight, [2]))
    torch.testing.assert_close(both[1:], alone, rtol=1e-5, atol=1e-6)
    batch = batch_of(eight, [0])
    turned = network.predict(replace(batch, patches=batch.patches.flip(0)))
    torch.testing.assert_close(turned, network.predict(batch), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(network.predict(replace(batch, patches=batch.patches // 2)), turned)


def test_groups_hold_whole_scans(eight):
    batch = batch_of(eight, [0, 1, 2, 3], groups=(3, 1))
    assert patch_groups(batch) == [6 + 5 + 4, 6]
    method, other = built(eight), batch_of(eight, [0, 1, 2, 5], groups=(3, 1))
    with torch.no_grad():
        first, second = (method.network.train()(b).features for b in (batch, other))
    torch.testing.assert_close(first[:3], second[:3])


def test_dropout_leaves_out_shares_of_patches_by_their_keys(eight):
    method = built(eight, OPTIONS.model_copy(update={"dropout": 0.5}))
    batch = batch_of(eight, [0, 1])
    with torch.no_grad():
        first, again = (method.network.train()(batch).features for _ in range(2))
        other = method.network.train()(replace(batch, random=batch.random + 1)).features
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_a_scan_without_landmarks_is_an_error(eight):
    batch = replace(batch_of(eight, [0]), counts=(6, 0))
    with pytest.raises(CohortError, match="shows no landmark"):
        built(eight).network.predict(batch)


def test_half_precision_gives_nearly_the_same(eight):
    method, batch = built(eight), batch_of(eight, [0, 1, 2, 3])
    whole = method.label_loss(batch, None)["total"].item()
    with torch.autocast("cpu", torch.bfloat16):
        half = method.label_loss(batch, None)["total"].item()
    assert half == pytest.approx(whole, rel=0.05)
