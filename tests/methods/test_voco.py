import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from golden import fill_voco
from pydantic import ValidationError
from train import lungs

from ctssl.config.methods import Voco as Options
from ctssl.config.runs import Run
from ctssl.errors import WeightsError
from ctssl.methods.voco import Voco, agreement, paper_terms, teacher_terms
from ctssl.train import weights
from ctssl.train.basecrops import BaseCrops, overlaps
from ctssl.train.batches import Cohort
from ctssl.train.cuts import cut_sample, embedded_cuts, read_cuts

SMALL = {
    **{"crop_voxels": (16, 16, 16), "width": 2, "projection_size": 12, "crop_batch": 3},
    **{"grid": (2, 3), "random_crops": 2},
}
no_monai = pytest.mark.skipif(
    not (find_spec("monai") and find_spec("einops")), reason="the extra voco (monai, einops) is not installed"
)
windows = pytest.mark.parametrize(("low", "high"), [(-1024, 240), (-175, 250)])
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


def test_the_least_prediction_is_zero_and_that_of_no_likeness_is_not():
    """On orthogonal bases a crop has a part of each, and the rest of its length elsewhere."""
    y = overlaps(torch.arange(2000) * 7919, BaseCrops((16, 16, 16), (4, 4), 2)).double().view(-1, 2, 16)
    rest = (1 - y.square().sum(2, keepdim=True)).clamp(min=0).sqrt()
    bases = torch.eye(18, dtype=torch.double)[:16].expand(len(y), 16, 18)
    placed, elsewhere = torch.cat([y, rest, 0 * rest], 2), torch.eye(18)[17].expand(len(y), 2, 18)
    torch.testing.assert_close(placed.norm(dim=2), torch.ones(len(y), 2, dtype=torch.double))
    found = [float(paper_terms(torch.cat([bases, p], 1), y)["prediction"]) for p in (placed, elsewhere)]
    assert found[0] == pytest.approx(0, abs=1e-5)
    assert found[1] == pytest.approx(0.09, abs=0.01)


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


def moved(method):
    """The method, its teacher no longer the student."""
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return method


@windows
@forms
def test_a_loss_is_that_of_projections_and_of_overlaps_of_the_same_draws(boxed, form, low, high):
    method = moved(build(boxed, form=form, augment={"steps": []}, hu_min=low, hu_max=high))
    batch = batch_of(method, boxed)
    terms = method.place_loss(batch, None)
    unit = (batch.patches.numpy().clip(low, high).astype(np.float32) - low) / (high - low)
    crops = torch.from_numpy(unit.transpose(0, 3, 2, 1).copy())[:, None]

    def projections(network, projector):
        return torch.nn.functional.normalize(projector(network(crops))).view(3, 8, -1)

    made = projections(method.query.network, method.projector)
    shares = overlaps(batch.random.view(3, 8)[:, 6:].flatten(), method.cut).view(3, 2, 6)
    if form == "paper":
        expected = paper_terms(made, shares)
    else:
        expected = teacher_terms(made, projections(*method.teacher), shares)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name
    assert np.isfinite([v.item() for v in terms.values()]).all()


@forms
def test_losses_in_bfloat16_are_near_those_in_float32_and_equal_for_equal_projections(
    boxed, monkeypatch, form
):
    method = moved(build(boxed, form=form, width=4, projection_size=64))
    batch = batch_of(method, boxed)

    @torch.no_grad()
    def losses():
        found = []
        for bf16 in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                found.append({name: float(value) for name, value in method.place_loss(batch, None).items()})
        return found

    exact, rough = losses()
    assert exact != rough
    assert rough == pytest.approx(exact, rel=0.05, abs=0.05)
    for projector in (method.projector, *method.teacher[1:]):
        fixed = torch.randn(24, 64) + 0.5
        monkeypatch.setattr(projector, "forward", lambda *_, fixed=fixed: fixed)
    exact, rough = losses()
    assert rough == pytest.approx(exact, rel=1e-6)


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


@windows
@torch.no_grad()
def test_features_are_means_of_levels_and_of_windows(boxed, low, high):
    method = build(boxed, window_step=0.7, least_lung=0.0, hu_min=low, hu_max=high)
    cuts = embedded_cuts(boxed.boxes["scan1"], method.query.cut)
    found, network, each = method.embed(cuts), method.query.network, []
    for window in cuts.patches:
        x = (window.float().clamp(low, high) - low).div(high - low).permute(2, 1, 0)[None, None]
        levels = [network.bn1.elu(network.conv1(x))]
        for halving in network.halvings:
            levels.append(halving(levels[-1]))
        each.append(torch.cat([level.mean((2, 3, 4))[0] for level in levels]))
    assert len(each) > 9
    torch.testing.assert_close(found[0], torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)


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


def test_weights_of_a_card_without_trunk_are_to_be_imported_again(tmp_path):
    """As they were before a trunk could be chosen."""
    chosen = Options(trunk="swin").model_dump(mode="json")
    card = {"method": "voco", "landmarks": 0, "options": {n: o for n, o in chosen.items() if n != "trunk"}}
    weights.write(tmp_path / "model.safetensors", {"network.swinViT.norm.weight": torch.ones(3)}, card)
    with pytest.raises(WeightsError, match="swinViT") as error:
        weights.load(tmp_path / "model.safetensors", None)
    assert "import them again" in error.value.advice


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
