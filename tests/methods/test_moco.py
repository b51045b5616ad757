import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import fill_boxes
from torch.nn import functional
from train import lungs

from ctssl.config.augment import PRESETS
from ctssl.config.methods import MocoV2 as Options
from ctssl.methods import Made
from ctssl.methods.moco import MocoV2, scaled
from ctssl.networks.volume import LAST_EDGE, VolumeEncoder
from ctssl.store.boxes import box_of
from ctssl.store.layout import AIR_HU
from ctssl.train.batches import Cohort
from ctssl.train.cuts import cut_sample, embedded_cuts, read_cuts
from ctssl.train.schedule import Plan

SMALL = {"volume_voxels": 32, "field_mm": 60, "feature_size": 16, "projection_size": 12, "queue_size": 7}


@pytest.fixture(scope="module")
def boxed(people, tmp_path_factory):
    return lungs.with_boxes(people, tmp_path_factory.mktemp("moco"))


def build(people, **changes):
    return MocoV2.build(Options(**{**SMALL, **changes}), people.atlas)


def batch_of(method, people, scans=(0, 3, 2, 4)):
    [phase] = method.phases()
    cohort, boxes = Cohort.of(people.stores, people.subjects), [people.boxes[s.scan] for s in people.stores]
    sample = cut_sample(np.array(scans), phase.cut)
    return read_cuts(boxes, cohort, sample, phase.cut, (0, 0, 0), None).drawn(sample, 0, 0, 0)


@pytest.mark.parametrize("together", [True, False])
def test_the_loss_is_info_nce_against_keys_of_other_subjects(boxed, together):
    """In numpy. Scans 0 and 1 are of one person: neither is the other's negative, in one step or in two."""
    method = build(boxed, temperature=0.3, batch_negatives=together)
    [phase], who, held = method.phases(), Cohort.of(boxed.stores, boxed.subjects).subjects, []
    for scans, ignored in (((1, 2), 2 * together), ((0, 3, 2, 4), 2 + 4 * together)):
        batch, seen = batch_of(method, boxed, scans), []
        keys = phase.keys(batch)
        made = Made(keys, batch.subjects, 0)
        method.before_loss(phase, made)
        hook = method.query.encoder.register_forward_hook(
            lambda _, given, out, s=seen: s.append(out.detach())
        )
        total = float(phase.loss(batch, keys)["total"].detach())
        hook.remove()
        method.after_step(phase, made)
        q, k = seen[0].double().numpy(), keys.double().numpy()
        q /= np.linalg.norm(q, axis=1, keepdims=True)
        np.testing.assert_allclose(np.linalg.norm(k, axis=1), 1, rtol=1e-5)
        now = list(zip(who[list(scans)], k, strict=True))
        known, expected = held + now * together, []
        for (subject, own), query in zip(now, q, strict=True):
            others = [query @ key for other, key in known if other != subject]
            ignored -= len(known) - len(others)
            logits = np.array([query @ own, *others]) / 0.3
            expected.append(np.log(np.exp(logits).sum()) - logits[0])
        assert ignored == 0  # of those before: scan 0 ignores scan 1's key, scan 2 its own
        assert total == pytest.approx(np.mean(expected), rel=1e-4, abs=1e-9)
        assert total > 0.1 or not known, "random directions alone are nothing to be compared with"
        held += now


@pytest.mark.parametrize("together", [True, False])
def test_the_key_network_follows_and_any_number_of_keys_is_queued(boxed, together):
    method = build(boxed, momentum=0.75, batch_negatives=together)
    with torch.no_grad():
        for parameter in method.query.parameters():
            parameter.add_(1)
    before = [p.clone() for p in method.key.parameters()]
    [phase], made = method.phases(), Made(functional.normalize(torch.randn(5, 12)), torch.arange(5), 0)
    for _ in range(2):
        method.before_loss(phase, made)
        method.after_step(phase, made)
    for old, key, query in zip(before, method.key.parameters(), method.query.parameters(), strict=True):
        torch.testing.assert_close(key, query + (old - query) * 0.75**2)
    assert method.queue.keys(0).subjects.tolist() == [2, 3, 4, 3, 4, 0, 1]  # seven places, ten keys


def test_lengths_of_the_augmentation_grow_with_the_volume():
    (published,) = PRESETS["moco-v2"]
    ours = scaled(Options().augment, 256)
    assert ours.elastic_magnitude == pytest.approx(published.elastic_magnitude)
    assert ours.model_copy(update={"elastic_magnitude": published.elastic_magnitude}) == published
    assert scaled(Options().augment, 32) == Options().augment


@pytest.mark.parametrize("voxels", [16, 32, 64, 100, 128, 256])
def test_the_trunk_halves_until_few_voxels_are_left(voxels):
    seen = []
    with torch.device("meta" if voxels > 64 else "cpu"):
        encoder = VolumeEncoder(voxels, 16, 8).eval()
        encoder.halvings[-1].register_forward_hook(lambda _, given, made: seen.append(made.shape))
        assert encoder(torch.empty(2, 1, voxels, voxels, voxels)).shape == (2, 8)
    assert seen[-1][1] == 16
    assert max(seen[-1][2:]) <= LAST_EDGE


def test_features_are_the_mean_over_space_before_the_head(boxed):
    method = build(boxed)
    cuts, seen = embedded_cuts(boxed.boxes["scan3"], method.query.cut), []
    method.query.encoder.halvings[-1].register_forward_hook(lambda _, given, made: seen.append(made))
    features = method.embed(cuts)
    assert cuts.patches.shape == (1, 32, 32, 32)
    torch.testing.assert_close(features, seen[0].mean((2, 3, 4)))


def test_the_size_of_lungs_stays_unless_the_box_is_stretched(boxed):
    """Lungs of half the size fill half of a fixed field along each axis; a stretched box hides it."""
    small = lungs.lungs((20, 22, 26))
    large = small.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    card = {"scan": "shown", "atlas": boxed.atlas.id, "spacing_mm": 1.0}
    shown = [box_of(np.where(mask > 0, 0, AIR_HU), mask, card) for mask in (small, large)]

    def extents(cut):
        """Voxels along z, y, x that show lung, of the small ones and of the large."""
        there = [embedded_cuts(box, cut).patches[0].numpy() > AIR_HU / 2 for box in shown]
        return np.array([[np.ptp(along) + 1 for along in np.nonzero(lung)] for lung in there])

    fixed = extents(build(boxed).query.cut)
    assert (fixed[1] > 10).all()
    assert np.abs(2 * fixed[0] - fixed[1]).max() <= 2
    stretched = extents(build(boxed, field_mm=None).query.cut)
    assert np.abs(stretched[0] - stretched[1]).max() <= 1


def test_a_field_far_larger_than_the_chest_is_a_speck_in_air(boxed):
    """It holds what the box holds, and of the air no more is read than the speck's voxels touch."""
    box, cut = boxed.boxes["scan3"], build(boxed, field_mm=1000).query.cut
    asked = []
    spied = replace(box, _arrays=box._arrays)
    object.__setattr__(spied, "read", lambda *what: asked.append(what) or box.read(*what))
    volume = embedded_cuts(spied, cut).patches[0].numpy()
    held = (box.whole("volume").astype(float) - AIR_HU).sum() * box.spacing_mm**3
    assert (volume[:14] == AIR_HU).all()
    assert (volume.astype(float) - AIR_HU).sum() * (1000 / 32) ** 3 == pytest.approx(held, rel=0.05)
    [(_, low, high)] = asked
    assert (high - low <= np.array(lungs.SHAPE) + 4 * 1000 / 32).all()
    with pytest.raises(ValueError, match="field_mm"):
        Options(field_mm=3840)


def test_a_field_smaller_than_a_voxel_shows_the_middle_of_the_lungs(boxed):
    box = boxed.boxes["scan3"]
    volume = embedded_cuts(box, build(boxed, field_mm=0.4).query.cut).patches[0].numpy()
    z, y, x = (slice(n - 1, n + 1) for n in box.lungs.mean(0).astype(int))
    around = box.whole("volume")[z, y, x]
    assert around.min() <= volume.min() <= volume.max() <= around.max()


def test_a_scan_that_would_be_alone_sits_a_step_out(boxed):
    """Five scans by two: alone there is nothing to tell it from, nor a variance of a map of one voxel."""
    [phase] = build(boxed, volume_batch=2).phases()
    plan = Plan([phase], Cohort.of(boxed.stores, boxed.subjects), 8, 0)
    met = [step.sample.members.tolist() for step in plan.steps()]
    assert [len(scans) for scans in met] == [2] * 16
    assert plan.totals() == [16]
    assert {scan for scans in met for scan in scans} == set(range(5))


def test_random_keys_that_stay_in_the_queue_are_told():
    assert Options(queue_size=100, epochs=10).remarks(10) == []
    assert "at most 90 keys" in Options(queue_size=100, epochs=10).remarks(9)[0]


def test_the_losses_of_a_training_are_those_written_down(tmp_path):
    """To 1e-3 relative: other instructions of the processor round otherwise."""
    wanted = json.loads(fill_boxes.FILE.read_text())["moco-v2"]
    np.testing.assert_allclose(fill_boxes.losses(tmp_path, "moco-v2"), wanted, rtol=1e-3)
