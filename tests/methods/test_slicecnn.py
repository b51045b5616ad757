"""slice-cnn: a montage of planes through the atlas's places, and the network that sees it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import fill_supervised
from pydantic import ValidationError
from torch.nn import functional

from ctssl.config.augment import Augment
from ctssl.config.methods import SliceCnn as Options
from ctssl.methods.slicecnn import MontageNetwork, SliceCnn, montage
from ctssl.networks.montage import PictureEncoder
from ctssl.train.batches import Cohort
from ctssl.train.cuts import cut_sample, read_cuts
from ctssl.train.held import whole_scan
from ctssl.train.labels import Task
from ctssl.train.planes import planes

OPTIONS = Options(plane_voxels=32, field_mm=60, feature_size=16, widths=(4, 8, 8), scan_batch=4)


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    return fill_supervised.eight(tmp_path_factory.mktemp("eight"))


def built(people, options=OPTIONS):
    torch.manual_seed(1)
    return SliceCnn.build(options, people.atlas, Task())


def batch_of(people, method, scans):
    cohort, [phase] = Cohort.of(people.stores, people.subjects), method.phases()
    sample = cut_sample(np.array(scans), phase.cut)
    boxes = [people.boxes[store.scan] for store in people.stores]
    batch = read_cuts(boxes, cohort, sample, phase.cut, (0, 0, 0), None, people.stores)
    return batch.drawn(sample, 0, 0, 0)


def test_a_montage_is_two_by_two():
    four = np.random.default_rng(0).normal(size=(3, 4, 5, 5))
    wanted = np.stack([np.block([[a, b], [c, d]]) for a, b, c, d in four])[:, None]
    assert (montage(torch.tensor(four)).numpy() == wanted).all()


def test_training_and_testing_see_the_same_planes(eight):
    method = built(eight)
    batch = batch_of(eight, method, [3, 1])
    assert batch.patches.shape == (2, 4, 32, 32)
    for row, number in ((0, 3), (1, 1)):
        store = eight.stores[number]
        one = whole_scan(method.network, store, eight.boxes[store.scan], None)
        assert torch.equal(one.patches[0], batch.patches[row])
        assert (
            planes(eight.boxes[store.scan], store, method.network.cut, None) == one.patches[0].numpy()
        ).all()


def test_views_are_axial_coronal_and_sagittal_of_either_lung(eight):
    """Of landmarks that lie on the box as in the atlas: the right lung is at lower x."""
    mask = eight.boxes["scan0"].read("mask", (0, 0, 0), eight.boxes["scan0"].shape)
    there = np.array(eight.boxes["scan0"].lungs) - [[0] * 3, [1] * 3]  # z, y, x
    unit = eight.atlas.coordinates()
    landmarks = there[0][::-1] + unit * (there[1] - there[0])[::-1]
    store = replace(eight.stores[0], landmarks_mm=landmarks, valid=np.ones(6, bool))
    cut = built(eight).network.cut
    found = planes(eight.boxes["scan0"], store, replace(cut, field_mm=32.0, slab_mm=1.0), None)
    whole = eight.boxes["scan0"].whole("volume")
    x = [round(there[0][2] + share * (there[1] - there[0])[2]) for share in (0.3, 0.7)]
    assert [np.bincount(mask[:, :, i].ravel()).argsort()[-2] for i in x] == [1, 2]
    for view, i in zip(found[2:], x, strict=True):  # the middle of the box: 20, 22
        part = whole[4:36, 6:38, i]
        assert np.corrcoef(view.ravel(), part.ravel())[0, 1] > 0.9


def test_the_encoder_is_three_convolutions_with_pooling_and_a_dense_layer():
    torch.manual_seed(0)
    encoder, x = PictureEncoder(70, (3, 4, 5), 6), torch.randn(5, 1, 70, 70)
    wanted = x
    with torch.no_grad():
        for convolution, norm in zip(encoder.convolutions, encoder.norms, strict=True):
            weight = convolution.weight[:, :, 0]
            wanted = functional.conv2d(wanted, weight, convolution.bias, padding=2)
            wanted = functional.batch_norm(wanted, None, None, norm.weight, norm.bias, training=True)
            wanted = functional.max_pool2d(functional.elu(wanted), 4, ceil_mode=True)
        wanted = encoder.dense(wanted.flatten(1))  # 70, 18, 5, 2
        wanted = functional.elu(functional.batch_norm(wanted, None, None, training=True))
        torch.testing.assert_close(encoder.train()(x), wanted, rtol=1e-4, atol=1e-5)


def test_views_are_augmented_each_by_keys_of_its_own(eight):
    moved = Augment(
        steps=("warp", "noise"), elastic_magnitude=0, rotation_deg=(5, 0, 0), translation_voxels=1
    )
    method = built(eight, OPTIONS.model_copy(update={"augment": moved}))
    batch = batch_of(eight, method, [0, 1, 2])
    same = replace(batch, patches=batch.patches[:1, :1].expand(3, 4, -1, -1))
    network = method.network.train()
    seen = network._planes(same)
    assert len({view.numpy().tobytes() for view in seen.flatten(0, 1)}) == 12
    one = replace(same, patches=same.patches[1:2], random=same.random[1:2])
    torch.testing.assert_close(network._planes(one)[0], seen[1], rtol=0, atol=1e-4)
    still = network.eval()._planes(same)
    np.testing.assert_allclose(
        still.numpy(), same.patches.float().clamp(-1024, 240).numpy() / 632 + 1024 / 632 - 1, atol=1e-5
    )


def test_the_places_of_landmarks_are_kept_with_the_weights(eight):
    method = built(eight)
    fresh = SliceCnn.embedder(OPTIONS, 6, 1)
    fresh.load_state_dict(method.query.state_dict())
    np.testing.assert_allclose(fresh.cut.coordinates, eight.atlas.coordinates(), atol=1e-6)
    assert isinstance(method.query, MontageNetwork)


def test_half_precision_changes_nothing(eight):
    method = built(eight, OPTIONS.model_copy(update={"dropout": 0}))
    batch = replace(batch_of(eight, method, [0, 1, 2, 3]), targets=torch.zeros(4))
    with torch.autocast("cpu", torch.bfloat16):
        half = method.network.train().encoder(montage(method.network._planes(batch)))
    torch.testing.assert_close(half, method.network.encoder(montage(method.network._planes(batch))))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"axial": (0.5, 1.2, 0.5)}, "from 0 to 1"), ({"widths": (0, 4, 4)}, "a channel at least")],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(ValidationError, match=said):
        Options(**options)
