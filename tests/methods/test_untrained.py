from dataclasses import replace

import torch
from torch.nn import functional
from train import synthetic

from ctssl.config.study import Run
from ctssl.methods.context_aware import ContextAware
from ctssl.train import weights
from ctssl.train.loop import pretrain

SMALL = {"feature_size": 16, "patch_batch": 4, "graph_batch": 3, "epochs": 30}


def trained(people, out, **changes):
    """The model of an untrained run."""
    run = Run(name="control", method="untrained", options={**SMALL, **changes})
    pretrain(replace(synthetic.job(people, out), run=run))
    return weights.load(out / weights.TENSORS, people.atlas)


def test_weights_are_those_that_context_aware_starts_with(people, tmp_path):
    model = trained(people, tmp_path, epochs=2)
    torch.manual_seed(0)
    start = ContextAware.build(synthetic.options(), people.atlas).query
    kept, fresh = dict(model.embedder.named_parameters()), dict(start.named_parameters())
    assert kept.keys() == fresh.keys()
    for name, value in kept.items():
        torch.testing.assert_close(value, fresh[name], rtol=0, atol=0, msg=name)


def test_statistics_are_those_of_the_cohort(people, tmp_path):
    embedder = trained(people, tmp_path).embedder
    encoder = embedder.encoder
    shown = torch.cat([torch.from_numpy(s.patches()[s.valid]) for s in people.stores]).float()
    windowed = (shown.clamp(-1024, 240) + 1024)[:, None] / 632 - 1
    made = functional.conv3d(windowed, encoder.conv1.weight, encoder.conv1.bias, padding=1)
    mean, deviation = made.mean((0, 2, 3, 4)), made.std((0, 2, 3, 4))
    assert (encoder.bn1.running_mean - mean).abs().max() < 0.1 * deviation.max()
    # a step sees one landmark of some scans, so its variance lies a little below that of all
    assert ((encoder.bn1.running_var.sqrt() / deviation - 1).abs() < 0.25).all()
    assert embedder.graph.bn1.running_mean.abs().max() > 0


def test_without_a_graph_there_is_one_phase(people, tmp_path):
    model = trained(people, tmp_path, graph=False, epochs=1)
    assert model.embedder.graph is None
    assert len(model.card["steps"]) == 1
