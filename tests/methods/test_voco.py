import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from golden import fill_voco
from pydantic import ValidationError
from train import lungs

from ctssl.config.methods import Voco as Options
from ctssl.config.study import Run
from ctssl.methods.voco import Voco, agreement, paper_terms, teacher_terms
from ctssl.networks.projector import Projector
from ctssl.networks.pyramid import Pyramid
from ctssl.train.basecrops import overlaps
from ctssl.train.batches import Cohort
from ctssl.train.cuts import cut_sample, embedded_cuts, read_cuts

SMALL = {
    **{"crop_voxels": (16, 16, 16), "width": 2, "projection_size": 12, "crop_batch": 3},
    **{"grid": (2, 3), "random_crops": 2},
}
no_monai = pytest.mark.skipif(
    not (find_spec("monai") and find_spec("einops")), reason="the extra voco (monai, einops) is not installed"
)
forms = pytest.mark.parametrize("form", ["paper", "teacher"])


@pytest.fixture(scope="module")
def boxed(people, tmp_path_factory):
    return lungs.with_boxes(people, tmp_path_factory.mktemp("voco"))


def build(people, **changes):
    return Voco.build(Options(**{**SMALL, **changes}), people.atlas)


def batch_of(method, people, scans=(0, 3, 2)):
    cohort, boxes = Cohort.of(people.stores, people.subjects), [people.boxes[s.scan] for s in people.stores]
    sample = cut_sample(np.array(scans), method.cut)
    return read_cuts(boxes, cohort, sample, method.cut, (0, 0, 0), None).drawn(sample, 0, 0, 0)


def cosine(a, b):
    return float(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))


def vectors(seed, scans=3, randoms=2, bases=4, width=5):
    """(scans, bases + randoms, width) of length one, and overlaps (scans, randoms, bases) with zeros."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(scans, bases + randoms, width)) + 0.7
    shares = rng.uniform(0.1, 1, (scans, randoms, bases)) * (rng.random((scans, randoms, bases)) < 0.6)
    shares[..., 0] += 0.2
    made /= np.linalg.norm(made, axis=2, keepdims=True)
    return made, shares / shares.sum(2, keepdims=True)


def tensors(*arrays):
    return [torch.from_numpy(array).requires_grad_() for array in arrays]


def test_the_loss_of_the_paper_in_numpy():
    made, y = vectors(0)
    missed, apart = [], []
    for scan in range(3):
        q, p = made[scan, :4], made[scan, 4:]
        for r in range(2):
            for i in range(4):
                missed.append(-np.log(1 - abs(y[scan, r, i] - max(0, cosine(p[r], q[i])))))
        apart += [abs(cosine(q[i], q[j])) for i in range(4) for j in range(i + 1, 4)]
    found = {n: v.item() for n, v in paper_terms(*tensors(made, y)).items()}
    assert found["prediction"] == pytest.approx(np.mean(missed), rel=1e-4)
    assert found["regularisation"] == pytest.approx(np.mean(apart), rel=1e-6)
    assert found["total"] == pytest.approx(np.mean(missed) + np.mean(apart), rel=1e-4)


def test_the_loss_with_a_teacher_in_numpy():
    (made, y), (theirs, _) = vectors(1), vectors(2)
    positive, negative, apart = [], [], []
    for scan in range(3):
        q, p, teacher_q, teacher_p = made[scan, :4], made[scan, 4:], theirs[scan, :4], theirs[scan, 4:]
        for r in range(2):
            far = []
            for i in range(4):
                share = y[scan, r, i]
                first, second = cosine(p[r], teacher_q[i]), cosine(teacher_p[r], q[i])
                likeness = 0.5 * (max(0, first) + max(0, second))
                positive.append(-share * np.log(1 - abs(share - likeness)))
                far += [likeness**2] if share == 0 else []
            negative.append(np.mean(far) if far else 0)
        apart += [max(0, cosine(q[i], q[j])) ** 2 for i in range(4) for j in range(i + 1, 4)]
    found = {n: v.item() for n, v in teacher_terms(*tensors(made, theirs, y)).items()}
    assert found["positive"] == pytest.approx(np.sum(positive) / y.sum(), rel=1e-4)
    assert found["negative"] == pytest.approx(np.mean(negative), rel=1e-6)
    assert found["regularisation"] == pytest.approx(np.mean(apart), rel=1e-6)
    assert found["total"] == pytest.approx(sum(v for n, v in found.items() if n != "total"), rel=1e-6)


def test_what_has_no_gradient():
    """Bases in the paper's prediction; the second base of a pair with a teacher."""
    made, y = tensors(*vectors(3))
    paper_terms(made, y)["prediction"].backward()
    assert (made.grad[:, :4] == 0).all()
    assert (made.grad[:, 4:] != 0).any()
    made, theirs, y = tensors(vectors(4)[0], *vectors(5))
    teacher_terms(made, theirs, y)["regularisation"].backward()
    assert (made.grad[:, 3:] == 0).all()  # the last base is first of no pair
    assert (made.grad[:, 0] != 0).any()


def test_agreement_is_a_correlation_and_the_share_of_nearest_bases():
    rng = np.random.default_rng(6)
    alike, shares = rng.random((3, 2, 5)), rng.random((3, 2, 5))
    found = agreement(*map(torch.from_numpy, (alike, shares)))
    pairs = list(zip(alike.reshape(6, 5), shares.reshape(6, 5), strict=True))
    assert float(found["correlation"]) == pytest.approx(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))
    assert float(found["top1"]) == pytest.approx(np.mean([a.argmax() == b.argmax() for a, b in pairs]))
    nothing = agreement(torch.zeros(3, 2, 5), torch.from_numpy(shares).float())
    assert (float(nothing["correlation"]), float(nothing["top1"])) == (0, 0)


@forms
def test_a_loss_is_that_of_projections_and_of_overlaps_of_the_same_draws(boxed, form):
    method = build(boxed, form=form, augment={"steps": []})
    batch = batch_of(method, boxed)
    terms = method.place_loss(batch, None)
    unit = (batch.patches.numpy().clip(-1024, 240).astype(np.float32) + 1024) / 1264
    crops = torch.from_numpy(unit.transpose(0, 3, 2, 1).copy())[:, None]
    made = torch.nn.functional.normalize(method.projector(method.query.network(crops))).view(3, 8, -1)
    shares = overlaps(batch.random.view(3, 8)[:, 6:].flatten(), method.cut).view(3, 2, 6)
    expected = paper_terms(made, shares) if form == "paper" else teacher_terms(made, made, shares)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name
    assert np.isfinite([v.item() for v in terms.values()]).all()


def test_each_crop_is_augmented_for_itself_and_seen_as_x_y_z(boxed):
    still, changed = build(boxed, augment={"steps": []}), build(boxed)
    batch = batch_of(still, boxed)
    plain, seen = still._crops(batch), changed._crops(batch)
    assert plain.shape == (24, 1, 16, 16, 16)
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, seen, strict=True)]
    assert 2 < sum(same) < 15  # 0.8^4 x 0.9 of them stay: 9
    sorted_plain, sorted_seen = plain.flatten(1).sort(1).values, seen.flatten(1).sort(1).values
    shift = (sorted_seen - sorted_plain).mean(1, keepdim=True)
    torch.testing.assert_close(sorted_seen, sorted_plain + shift, rtol=0, atol=1e-5)
    assert 0.01 < shift.abs().max() < 0.1


def test_the_teacher_starts_as_the_student_and_follows(boxed):
    method = build(boxed, momentum=0.75)
    student = [*method.query.network.parameters(), *method.projector.parameters()]
    teacher = list(method.teacher.parameters())
    assert all(torch.equal(a, b) for a, b in zip(student, teacher, strict=True))
    assert not any(p.requires_grad for p in teacher)
    before = [p.clone() for p in teacher]
    with torch.no_grad():
        for p in student:
            p.add_(1)
    [phase] = method.phases()
    method.after_step(phase, None)
    for old, new in zip(before, teacher, strict=True):
        torch.testing.assert_close(new, old + 0.25)
    assert len(build(boxed, form="paper").teacher) == 0
    assert not {id(p) for p in phase.parameters} & {id(p) for p in teacher}


@torch.no_grad()
def test_features_are_means_of_levels_and_of_windows(boxed):
    method = build(boxed, window_step=0.7, least_lung=0.0)
    cuts = embedded_cuts(boxed.boxes["scan1"], method.query.cut)
    found, network, each = method.embed(cuts), method.query.network, []
    for window in cuts.patches:
        x = (window.float().clamp(-1024, 240) + 1024).div(1264).permute(2, 1, 0)[None, None]
        levels = [network.bn1.elu(network.conv1(x))]
        for halving in network.halvings:
            levels.append(halving(levels[-1]))
        each.append(torch.cat([level.mean((2, 3, 4))[0] for level in levels]))
    assert len(each) > 9
    torch.testing.assert_close(found[0], torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)


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


@pytest.mark.parametrize(
    "options",
    [
        {"crop_voxels": (16, 24, 16)},
        {"crop_voxels": (0, 16, 16)},
        {"crop_voxels": (64, 64, 48), "trunk": "swin"},
        {"crop_voxels": (32, 32, 32), "trunk": "swin"},
        {"grid": (1, 1)},
        {"grid": (0, 4)},
        {"grid": (40, 40)},
        {"form": "student"},
    ],
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ValidationError):
        Options(**options)


def test_a_run_needs_no_weights():
    assert Run(name="voco", method="voco").options.trunk == "light"


@pytest.mark.slow
@forms
def test_the_losses_of_a_training_are_those_written_down(tmp_path, form):
    """To 1e-3 relative: other instructions of the processor round otherwise."""
    wanted = json.loads(fill_voco.FILE.read_text())[form]
    np.testing.assert_allclose(fill_voco.losses(tmp_path, form), wanted, rtol=1e-3)


@pytest.mark.slow
@no_monai
def test_the_published_trunk_trains(boxed):
    method = build(boxed, trunk="swin", crop_voxels=(64, 64, 64), grid=(1, 2), random_crops=1)
    batch = batch_of(method, boxed, (0, 3))
    [phase] = method.phases()
    optimiser = torch.optim.SGD(phase.parameters, lr=0.01)
    before = [p.clone() for p in phase.parameters]
    terms = method.place_loss(batch, None)
    terms["total"].backward()
    optimiser.step()
    assert all(torch.isfinite(p).all() for p in phase.parameters)
    moved = [not torch.equal(a, b) for a, b in zip(before, phase.parameters, strict=True)]
    assert np.mean(moved) > 0.8
    assert method.embed(embedded_cuts(boxed.boxes["scan1"], method.query.cut)).shape == (1, 1152)
