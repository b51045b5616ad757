from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional
from train import synthetic

from ctssl.config.runs import Run
from ctssl.methods.context_aware import ContextAware
from ctssl.train import weights
from ctssl.train.loop import pretrain

SMALL = {"feature_size": 16, "patch_batch": 4, "graph_batch": 3, "epochs": 4}


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
    embedder = trained(people, tmp_path, patch_batch=5, graph_batch=5).embedder
    encoder, convolve = embedder.encoder, functional.conv3d
    shown = [torch.from_numpy(store.patches()[store.valid]).float() for store in people.stores]
    windowed = (torch.cat(shown).clamp(-1024, 240) + 1024)[:, None] / 632 - 1
    made = convolve(windowed, encoder.conv1.weight, encoder.conv1.bias, padding=1)
    mean, deviation = made.mean((0, 2, 3, 4)), made.std((0, 2, 3, 4))
    assert (encoder.bn1.running_mean - mean).abs().max() < 0.15 * deviation.max()
    # a step sees one landmark, so its variance lies a little below that of all
    assert ((encoder.bn1.running_var.sqrt() / deviation - 1).abs() < 0.1).all()

    with torch.no_grad():
        nodes = encoder.eval().trunk(windowed)
        counts = [len(patches) for patches in shown]
        starts = np.cumsum(counts) - counts
        place = [np.cumsum(s.valid) - 1 + at for s, at in zip(people.stores, starts, strict=True)]
        edges = np.concatenate([p[s.edges] for p, s in zip(place, people.stores, strict=True)])
        outputs = embedder.graph.conv1(nodes, torch.from_numpy(edges))
    # the first rounds saw an encoder whose own statistics were not there yet
    norm, truth = embedder.graph.bn1, outputs.std(0)
    assert (norm.running_mean - outputs.mean(0)).abs().max() < 0.3 * truth.max()
    assert ((norm.running_var.sqrt() / truth - 1).abs() < 0.25).all()


def test_without_a_graph_there_is_one_phase(people, tmp_path):
    model = trained(people, tmp_path, graph=False, epochs=1)
    assert model.embedder.graph is None
    assert len(model.card["steps"]) == 1
