import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import fill_autoencoder
from train import synthetic

from ctssl.config.methods import Autoencoder as Options
from ctssl.methods.autoencoder import Autoencoder
from ctssl.methods.context_aware import ContextAware
from ctssl.train.batches import Cohort, Sample, read_batch, scan_sample


def build(people, **changes):
    return Autoencoder.build(Options(**{"feature_size": 16, "patch_batch": 4, **changes}), people.atlas)


@pytest.fixture
def batch(people):
    cohort, scans = Cohort.of(people.stores, people.subjects), np.array([0, 3, 2, 4])
    return read_batch(people.stores, cohort, Sample(scans, np.full(4, 3), scans), graph=False)


def test_the_loss_is_the_mean_squared_error_of_windowed_patches(people, batch):
    """In numpy; values beyond the window count as its ends, and patches are taken as they are."""
    batch = replace(batch, patches=batch.patches * 3 + 1500)
    method = build(people, hu_min=-1000, hu_max=200)
    seen = []
    method.decoder.register_forward_hook(lambda module, inputs, made: seen.append(made.detach()))
    [phase] = method.phases()
    terms = phase.loss(batch, None)
    hu = batch.patches.numpy().astype(float)
    assert hu.min() < -1000 < 200 < hu.max()
    wanted = (np.clip(hu, -1000, 200) + 400) / 600
    error = seen[0].numpy()[:, 0].astype(float) - wanted
    assert float(terms["total"].detach()) == pytest.approx((error**2).mean(), rel=1e-5)
    assert float(terms["error_hu"]) == pytest.approx(600 * np.abs(error).mean(), rel=1e-5)
    assert np.abs(error).mean() > 0.05


def test_gradients_reach_trunk_and_decoder_and_no_head(people, batch):
    method = build(people)
    [phase] = method.phases()
    phase.loss(batch, None)["total"].backward()
    moved = {id(p) for p in phase.parameters}
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in moved) == (".fc." not in name), name


def test_features_are_those_of_context_aware_without_a_graph(people):
    """The same weights give the same features: only the training differs."""
    method, other = build(people), ContextAware.build(synthetic.options(graph=False), people.atlas)
    other.query.load_state_dict(method.query.state_dict())
    cohort = Cohort.of(people.stores, people.subjects)
    scans = read_batch(people.stores, cohort, scan_sample(cohort, np.array([1, 2, 4])))
    torch.testing.assert_close(method.embed(scans), other.embed(scans), rtol=0, atol=0)


def test_the_decoder_is_not_kept(people):
    assert not [name for name in build(people).query.state_dict() if "decoder" in name]


def test_patches_come_back_through_the_vector(people, batch):
    """Slopes along unlike axes, whose mean is flat: who tells none apart has their variance as loss."""
    slope = torch.linspace(-1000, 200, 32)
    z, y, x = (slope.view(shape).expand(32, 32, 32) for shape in ((32, 1, 1), (1, 32, 1), (1, 1, 32)))
    batch = replace(batch, patches=torch.stack([z, z.flip(0), y, x]).to(torch.int16))
    method = build(people)
    [phase] = method.phases()
    optimiser = torch.optim.Adam(phase.parameters, lr=0.01)
    for _ in range(25):
        loss = phase.loss(batch, None)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    windowed = (batch.patches.numpy() + 1024) / 632 - 1
    assert float(loss.detach()) < 0.3 * windowed.var(0).mean()


def test_the_losses_of_a_training_are_those_written_down(tmp_path):
    """To 1e-3 relative: other instructions of the processor round otherwise."""
    wanted = json.loads(fill_autoencoder.FILE.read_text())
    got = fill_autoencoder.losses(tmp_path)
    np.testing.assert_allclose(got, wanted, rtol=1e-3)
    assert got[-1] < 0.7 * got[0]
