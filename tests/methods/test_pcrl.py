import json

import numpy as np
import pytest
import torch
from golden import fill_pcrl
from pydantic import ValidationError
from train import lungs

from ctssl.config.methods import Pcrl as Options
from ctssl.config.runs import Run
from ctssl.methods import Made
from ctssl.methods.pcrl import Pairs, Pcrl, Side, indicators, mixed
from ctssl.train.augment.orient import Turn
from ctssl.train.batches import Cohort
from ctssl.train.cuts import cut_sample, embedded_cuts, read_cuts

SMALL = {
    **{"crop_voxels": (16, 16, 16), "crop_sizes": ((8, 8, 8), (12, 16, 16)), "width": 1, "tries": 1},
    **{"crop_batch": 4, "bn_groups": 1, "projection_size": 6, "queue_size": 20},
}
STILL = {"move": {"steps": []}}
forms = pytest.mark.parametrize("form", ["paper", "released"])
attentions = pytest.mark.parametrize("attention", ["multiplicative", "outer"])


@pytest.fixture(scope="module")
def boxed(people, tmp_path_factory):
    return lungs.with_boxes(people, tmp_path_factory.mktemp("pcrl"))


def build(people, **changes):
    return Pcrl.build(Options(**{**SMALL, **changes}), people.atlas)


def batch_of(method, people, scans=(0, 3, 2, 4), epoch=0):
    [phase] = method.phases()
    cohort, boxes = Cohort.of(people.stores, people.subjects), [people.boxes[s.scan] for s in people.stores]
    sample = cut_sample(np.array(scans), phase.cut)
    return read_cuts(boxes, cohort, sample, phase.cut, (0, 0, epoch), None).drawn(sample, 0, 0, epoch)


def array(tensor):
    return tensor.detach().double().numpy()


def weights(module):
    return {name: array(tensor) for name, tensor in module.named_parameters()}


def test_the_indicator_vector_names_each_flip_and_turn():
    flips = torch.tensor([[True, False, False], [False, True, False], [False, False, True]])  # z, y, x
    found = indicators(Turn(torch.tensor([0, 3, 1]), flips))
    assert found.tolist() == [[0, 0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 1, 0, 0]]


def turned(crop, vector):
    """A crop (z, y, x) as an indicator vector says, in numpy."""
    crop = np.rot90(crop, int(vector[3:].argmax()), (1, 2))
    return np.flip(crop, [axis for axis in range(3) if vector[2 - axis]])


def seen_by(method, monkeypatch):
    """What the attention was told, and what the decoder gave, in their order."""
    notes = {"told": [], "momentum": [], "decoded": []}
    method.head.attention.register_forward_hook(lambda _, given, __: notes["told"].append(array(given[1])))
    method.key_head.attention.register_forward_hook(
        lambda _, given, __: notes["momentum"].append(array(given[1]))
    )
    up = method.query.network.up

    def noted(maps, groups=None):
        made = up(maps, groups)
        notes["decoded"].append(array(made)[:, 0].transpose(0, 3, 2, 1))
        return made

    monkeypatch.setattr(method.query.network, "up", noted)
    return notes


@forms
@attentions
def test_restoration_is_the_error_from_clean_crops_turned_as_was_told(boxed, monkeypatch, form, attention):
    """In numpy, of HU as they were read: targets are never spoiled, inputs never turned."""
    method = build(boxed, form=form, attention=attention, hu_min=-900, hu_max=250, **STILL)
    batch, notes = batch_of(method, boxed), seen_by(method, monkeypatch)
    keys = method.pair_keys(batch)
    notes["told"].clear(), notes["momentum"].clear()
    terms = {name: float(value.detach()) for name, value in method.pair_loss(batch, keys).items()}
    unit = (np.clip(batch.patches.numpy().astype(float), -900, 250) + 900) / 1150
    first, second, share = unit[0::2], unit[1::2], array(method._pairs(batch).share)
    blend = share[:, None, None, None]
    own = [turned(*pair) for pair in zip(first, notes["told"][0], strict=True)]
    momentum = [turned(*pair) for pair in zip(second, notes["momentum"][0], strict=True)]
    if form == "paper":
        both = blend * first + (1 - blend) * second
        hybrid = [turned(*pair) for pair in zip(both, notes["told"][1], strict=True)]
        expected = {"own": own, "momentum": momentum, "hybrid": hybrid}
    else:
        hybrid = blend * np.array(own) + (1 - blend) * np.array(momentum)
        expected = {"own": own, "hybrid": hybrid}
        assert (share >= 0.5).all()
        assert "momentum" not in terms
    assert len(notes["decoded"]) == len(expected)
    errors = []
    for (name, target), made in zip(expected.items(), notes["decoded"], strict=True):
        errors.append(((made - np.array(target)) ** 2).mean())
        assert terms[name] == pytest.approx(errors[-1], rel=1e-4), name
    together = np.sum(errors) if form == "paper" else np.mean(errors)
    assert terms["restoration"] == pytest.approx(together, rel=1e-4)
    weight = 0.5 if form == "paper" else 1
    assert terms["total"] == pytest.approx(weight * (terms["contrast"] + together), rel=1e-4)
    assert terms["input_error"] > 0.005


def half(values, part):
    """The same of one half of the scans."""
    if isinstance(values, torch.Tensor):
        return values.chunk(2)[part]
    if isinstance(values, Pairs | Turn):
        return type(values)(*(half(value, part) for value in vars(values).values()))
    parts = [half(value, part) for value in values]
    return Side(*parts) if isinstance(values, Side) else parts


@forms
@torch.no_grad()
def test_what_is_decoded_has_statistics_of_its_own_group(boxed, form):
    method = build(boxed, form=form, width=2)
    batch = batch_of(method, boxed, (0, 3, 2, 4, 1, 2, 3, 0))
    batch.patches[8:] //= 4  # of the second group: brighter, and so are its maps
    pairs = method._pairs(batch)
    own, momentum = method._own(pairs, (8,)), method._momentum(pairs, (8,))
    sides = {"own": own, "momentum": momentum, "hybrid": method._hybrid(pairs, own, momentum)}
    found, together = method._errors(pairs, sides, (4, 4)), method._errors(pairs, sides, (8,))
    halves = [
        method._errors(half(pairs, i), {n: half(side, i) for n, side in sides.items()}, (4,)) for i in (0, 1)
    ]
    for name, error in found.items():
        each = [float(errors[name]) for errors in halves]
        assert float(error) == pytest.approx(np.mean(each), rel=1e-4)
        assert float(error) != pytest.approx(float(together[name]), rel=1e-3)


def test_a_move_is_that_of_input_and_target(boxed):
    method = build(boxed, move={"steps": ["turn"]}, corrupt={"steps": []})
    batch = batch_of(method, boxed)
    pairs, read = method._pairs(batch), method._unit(batch.patches.clamp(-1000, 1000).float())
    for i, (clean, seen) in enumerate(zip(pairs.clean, pairs.seen, strict=True)):
        torch.testing.assert_close(seen, clean.permute(0, 3, 2, 1)[:, None])
        stayed = [torch.equal(a, b) for a, b in zip(clean, read[i::2], strict=True)]
        assert sum(stayed) < 4
        torch.testing.assert_close(clean.flatten(1).sort(1).values, read[i::2].flatten(1).sort(1).values)


@forms
def test_losses_in_bfloat16_are_near_those_in_float32(boxed, form):
    method = build(boxed, form=form, width=4)
    [phase], batch, found = method.phases(), batch_of(method, boxed), []
    keys = phase.keys(batch)
    method.before_loss(phase, Made(keys, batch.subjects, 0))
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.no_grad():
            found.append(phase.loss(batch, keys))
    for name, value in found[0].items():
        assert found[1][name].dtype == value.dtype, name
        assert float(found[1][name]) == pytest.approx(float(value), rel=0.02, abs=0.01), name


def test_pair_sizes_says_whether_crops_of_a_pair_are_alike(boxed):
    alike = {sizes: build(boxed, pair_sizes=sizes).phases()[0].cut.alike for sizes in ("same", "independent")}
    assert alike == {"same": True, "independent": False}


def test_the_hybrid_mixes_the_maps_of_every_level(boxed, monkeypatch):
    """Equation 6, and the release's after attention."""
    for form in ("paper", "released"):
        method = build(boxed, form=form)
        pairs = method._pairs(batch_of(method, boxed))
        own, momentum = method._own(pairs, (4,)), method._momentum(pairs, (4,))
        hybrid, share = method._hybrid(pairs, own, momentum), array(pairs.share)[:, None, None, None, None]
        maps = [[*side.skips, side.bottleneck] for side in (own, momentum, hybrid)]
        assert [m.shape[1] for m in maps[2]] == [2, 4, 8, 16]
        for a, b, c in zip(*maps, strict=True):
            expected = share * array(a) + (1 - share) * array(b)
            np.testing.assert_allclose(array(c), expected, rtol=1e-4, atol=1e-6)
        if form == "paper":
            after = method.head.attention(hybrid.bottleneck, indicators(pairs.turns[2]))
        else:
            after = mixed(own.attended, momentum.attended, pairs.share)
        torch.testing.assert_close(hybrid.attended, after)


def test_shares_and_turns_are_spread_as_said_and_differ_between_sides(boxed):
    method, found = build(boxed, **STILL, corrupt={"steps": []}), []
    for epoch in range(60):
        pairs = method._pairs(batch_of(method, boxed, epoch=epoch))
        vectors = [indicators(turns).numpy() for turns in pairs.turns]
        found.append(np.concatenate([*vectors, pairs.share.numpy()[:, None]], 1))
    found = np.concatenate(found)
    share = np.sort(found[:, -1])
    assert np.abs(share - (np.arange(240) + 0.5) / 240).max() < 0.11  # uniform is Beta(1, 1)
    for first in (0, 7, 14):
        assert found[:, first : first + 3].mean(0) == pytest.approx([0.5] * 3, abs=0.12)
        assert found[:, first + 3 : first + 7].mean(0) == pytest.approx([0.25] * 4, abs=0.1)
    sides = [found[:, a : a + 3].ravel() for a in (0, 7, 14)]
    assert np.abs(np.corrcoef(sides) - np.eye(3)).max() < 0.12


def vectors_in_numpy(head, maps):
    """Projections of length one."""
    w, x = weights(head), array(maps).mean((2, 3, 4))
    hidden = np.maximum(x @ w["fc1.weight"].T + w["fc1.bias"], 0)
    out = hidden @ w["fc2.weight"].T + w["fc2.bias"]
    return out / np.linalg.norm(out, axis=1, keepdims=True)


@forms
def test_contrast_is_info_nce_against_vectors_of_other_subjects(boxed, form):
    """In numpy. Scans 0 and 1 are of one person: neither is the other's negative."""
    method = build(boxed, form=form, temperature=0.3, momentum=0.0)
    [phase] = method.phases()
    subjects = Cohort.of(boxed.stores, boxed.subjects).subjects
    before = batch_of(method, boxed, (1, 2))
    first = phase.keys(before)
    assert float(phase.loss(before, first)["contrast"].detach()) == 0  # nothing but directions at random
    method.before_loss(phase, Made(first, before.subjects, 0))
    batch = batch_of(method, boxed)
    keys = phase.keys(batch)
    method.before_loss(phase, Made(keys, batch.subjects, 0))
    contrast = float(phase.loss(batch, keys)["contrast"].detach())
    pairs, queue = method._pairs(batch), {}
    with torch.no_grad():
        own, momentum = method._own(pairs, (4,)), method._momentum(pairs, (4,))
        hybrid = method._hybrid(pairs, own, momentum)
    compared = "attended" if form == "paper" else "bottleneck"
    heads = {"momentum": method.key_head, "own": method.head, "hybrid": method.head}
    sides = {"momentum": momentum, "own": own, "hybrid": hybrid}
    made = {n: vectors_in_numpy(heads[n], getattr(sides[n], compared)) for n in sides}
    queued = ["momentum", "own", "hybrid"] if form == "paper" else ["momentum"]
    for n, part in zip(queued, np.split(array(keys), len(queued), 1), strict=True):
        np.testing.assert_allclose(part * len(queued) ** 0.5, made[n], rtol=1e-3, atol=1e-4)
    earlier = np.split(array(first) * len(queued) ** 0.5, len(queued), 1)
    queue = [(v, subjects[s]) for part in earlier for v, s in zip(part, (1, 2), strict=True)]
    queue += [(v, subjects[s]) for n in queued for v, s in zip(made[n], (0, 3, 2, 4), strict=True)]
    held = method.queue.keys(0)
    assert held.subjects.tolist()[: len(queue)] == [who for _, who in queue]
    expected = []
    for i, scan in enumerate((0, 3, 2, 4)):
        others = [v @ made["own"][i] for v, who in queue if who != subjects[scan]]
        assert len(others) == len(queued) * {0: 4, 3: 5, 2: 4, 4: 5}[scan]
        logits = np.array([made["own"][i] @ made["momentum"][i], *others]) / 0.3
        expected.append(np.log(np.exp(logits).sum()) - logits[0])
    assert contrast == pytest.approx(np.mean(expected), rel=1e-3)


def test_only_the_way_down_and_the_head_are_followed(boxed):
    method = build(boxed, momentum=0.75, batch_negatives=False)
    student = [*method.query.network.levels, method.head]
    student = [p for module in student for p in module.parameters()]
    follower = [*method.key.parameters(), *method.key_head.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(student, follower, strict=True))
    before = [p.clone() for p in follower]
    with torch.no_grad():
        for p in student:
            p.add_(1)
    [phase] = method.phases()
    keys = torch.nn.functional.normalize(torch.randn(4, 18))
    method.after_step(phase, Made(keys, torch.arange(4), 0))
    for old, new in zip(before, follower, strict=True):
        torch.testing.assert_close(new, old + 0.25)
    assert method.queue.keys(0).subjects.tolist()[:12] == [0, 1, 2, 3] * 3
    torch.testing.assert_close(method.queue.keys(0).vectors[:12].norm(dim=1), torch.ones(12))
    assert not {id(p) for p in phase.parameters} & {id(p) for p in follower}


@forms
def test_every_parameter_that_is_trained_has_a_gradient_and_no_other(boxed, form):
    method = build(boxed, form=form, attention="outer")
    batch, [phase] = batch_of(method, boxed), method.phases()
    keys = phase.keys(batch)
    method.before_loss(phase, Made(keys, batch.subjects, 0))
    phase.loss(batch, keys)["total"].backward()
    trained = {id(p) for p in phase.parameters}
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained), name
        assert parameter.requires_grad == (id(parameter) in trained), name


@pytest.mark.parametrize(("low", "high"), [(-1000, 1000), (-175, 250)])
@torch.no_grad()
def test_features_are_means_of_the_bottleneck_over_space_and_windows(boxed, low, high):
    method = build(boxed, window_step=0.7, least_lung=0.0, hu_min=low, hu_max=high)
    for p in method.query.network.parameters():
        p.mul_(4 if p.dim() > 1 else 1)  # else hardly anything of a window comes through
    cuts = embedded_cuts(boxed.boxes["scan1"], method.query.cut)
    found, each = method.embed(cuts), []
    for window in cuts.patches:
        x = (window.float().clamp(low, high) - low).div(high - low).permute(2, 1, 0)[None, None]
        each.append(method.query.network.bottleneck(x).mean((2, 3, 4))[0])
    assert len(each) > 9
    expected = torch.stack(each)
    assert (expected.std(0) > 0.01 * expected.abs().mean(0)).any()
    torch.testing.assert_close(found[0], expected.mean(0), rtol=1e-4, atol=1e-6)


def test_a_run_needs_no_weights_and_random_vectors_that_stay_are_told():
    assert Run(name="pcrl", method="pcrl").options.form == "paper"
    assert Options(queue_size=300, epochs=10).remarks(10) == []
    assert "at most 270 vectors" in Options(queue_size=300, epochs=10).remarks(9)[0]
    assert "at most 90 vectors" in Options(queue_size=300, epochs=10, form="released").remarks(9)[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop_voxels": (16, 24, 16)}, "as many along y as along x"),
        ({"crop_voxels": (20, 16, 16)}, "multiples of 8"),
        ({"crop_sizes": ((8, 8, 1),)}, "from 2 to 512"),
        ({"crop_sizes": ()}, "at least 1"),
        ({"least_overlap": 1.0}, "less than 1"),
        ({"attention": "outer"}, r"width is at most 16, but this is 32"),
        ({"form": "published"}, "paper"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        Options(**options)


@pytest.mark.slow
@pytest.mark.parametrize("case", fill_pcrl.CASES)
def test_the_losses_of_a_training_are_those_written_down(tmp_path, case):
    """To 1e-3 relative: other instructions of the processor round otherwise."""
    wanted = json.loads(fill_pcrl.FILE.read_text())[case]
    np.testing.assert_allclose(fill_pcrl.losses(tmp_path, case), wanted, rtol=1e-3)
