import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from train import lungs, synthetic

from ctssl.config.methods import MocoV2
from ctssl.errors import CohortError, WeightsError
from ctssl.evaluate import features
from ctssl.methods.context_aware import ContextAware
from ctssl.methods.moco import MocoV2 as OfVolumes
from ctssl.recipes import RECIPES
from ctssl.train import weights


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return synthetic.cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def model(people, tmp_path_factory):
    """Untrained weights with running statistics that are not the default."""
    torch.manual_seed(0)
    options = synthetic.options(feature_size=128)
    embedder = ContextAware.embedder(options)
    for name, buffer in embedder.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    card = {"method": "context-aware", "options": options.model_dump(mode="json")}
    card |= {"atlas": people.atlas.id, "landmarks": 6, "spacing_mm": 1.0}
    folder = tmp_path_factory.mktemp("model")
    weights.save(folder, embedder, card)
    return folder / "model.safetensors"


def run(model, people, folder, scans, **more):
    features.extract(
        model,
        people.atlas,
        [people.stores[i] for i in scans],
        [people.subjects[i] for i in scans],
        cache=folder / "cache",
        out=folder / "features.parquet",
        device="cpu",
        threads=1,
        **more,
    )
    return pd.read_parquet(folder / "features.parquet")


def test_a_row_per_scan_in_the_given_order(model, people, tmp_path):
    table = run(model, people, tmp_path, [3, 0, 1])
    assert table.columns.tolist() == ["scan", "subject", *(f"f{i:03}" for i in range(128))]
    assert table.scan.tolist() == ["scan3", "scan0", "scan1"]
    assert table.subject.tolist() == ["person3", "anna", "anna"]
    assert set(map(str, table.dtypes[2:])) == {"float32"}
    values = table.iloc[:, 2:].to_numpy()
    assert np.isfinite(values).all()
    assert not np.allclose(values[0], values[1])


def test_a_row_is_the_same_alone_and_with_others(model, people, tmp_path):
    together = run(model, people, tmp_path / "a", range(5))
    for scan in (2, 4):
        alone = run(model, people, tmp_path / f"b{scan}", [scan])
        pd.testing.assert_frame_equal(alone, together.iloc[[scan]].reset_index(drop=True), check_exact=True)
    read = weights.load(model, people.atlas).embedder
    from ctssl.train.batches import Cohort, read_batch, scan_sample

    cohort = Cohort.of(people.stores, people.subjects)
    batch = read_batch(people.stores, cohort, scan_sample(cohort, np.arange(5)))
    np.testing.assert_allclose(read.embed(batch).numpy(), together.iloc[:, 2:], rtol=1e-4, atol=1e-5)


@pytest.fixture
def embedded(monkeypatch):
    """The scans that were embedded and not taken from the cache."""
    real, scans = features.embed_scan, []

    def counted(embedder, store, device):
        scans.append(store.scan)
        return real(embedder, store, device)

    monkeypatch.setattr(features, "embed_scan", counted)
    return scans


def test_a_new_scan_costs_one_scan(model, people, tmp_path, embedded):
    first = run(model, people, tmp_path, [0, 1])
    again = run(model, people, tmp_path, [0, 2, 1])
    assert embedded == ["scan0", "scan1", "scan2"]
    pd.testing.assert_frame_equal(again.iloc[[0, 2]].reset_index(drop=True), first)
    digests = {people.stores[i].card["digest"] for i in range(3)}
    kept = [p.stem.split("-") for p in (tmp_path / "cache").iterdir()]
    assert {digest for digest, _ in kept} == digests
    assert len({how for _, how in kept}) == 1


def test_a_raised_recipe_recomputes(model, people, tmp_path, embedded, monkeypatch):
    for recipe in (1, 2, 2):
        monkeypatch.setitem(RECIPES, "features", recipe)
        run(model, people, tmp_path, [0])
    assert embedded == ["scan0", "scan0"]


def test_the_same_weights_with_other_options_are_computed_anew(model, people, tmp_path, embedded):
    """The window does not show in the tensors, and another window gives other features."""
    card = json.loads(model.with_suffix(".json").read_text())
    other = tmp_path / "model.safetensors"
    other.write_bytes(model.read_bytes())
    card["options"]["hu_max"] = 0
    other.with_suffix(".json").write_text(json.dumps(card))
    first, second = (run(path, people, tmp_path, [0]) for path in (model, other))
    assert embedded == ["scan0", "scan0"]
    assert not np.allclose(first.iloc[0, 2:].astype(float), second.iloc[0, 2:].astype(float))


def test_a_scan_whose_box_changed_in_a_voxel_is_computed_anew(people, tmp_path, monkeypatch):
    boxed, real, embedded = lungs.with_boxes(people, tmp_path / "boxes"), features.embed_scan, []
    monkeypatch.setattr(features, "embed_scan", lambda *args: embedded.append(args[1].scan) or real(*args))
    options = MocoV2(volume_voxels=16, field_mm=60, feature_size=8, projection_size=8)
    card = {"method": "moco-v2", "options": options.model_dump(mode="json")}
    card |= {"atlas": people.atlas.id, "landmarks": 6, "spacing_mm": 1.0}
    torch.manual_seed(0)
    embedder = OfVolumes.embedder(options)
    for name, buffer in embedder.named_buffers():
        if name.endswith("running_var"):  # as after a training; with 1, so many layers pass on no voxel
            buffer.fill_(0.05)
    weights.save(tmp_path, embedder, card)
    first, second = (
        run(tmp_path / "model.safetensors", people, tmp_path, [0, 1], boxes=lambda b=boxes: b)
        for boxes in (boxed.boxes, lungs.with_a_changed_voxel(boxed.boxes, "scan1"))
    )
    assert embedded == ["scan0", "scan1", "scan1"]
    same = (first.iloc[:, 2:] == second.iloc[:, 2:]).all(axis=1)
    assert same.tolist() == [True, False]


def test_faults_are_said(model, people, tmp_path):
    with pytest.raises(CohortError, match="at least one scan"):
        run(model, people, tmp_path, [])
    blind = replace(people.stores[2], valid=people.stores[2].valid & False)
    some = SimpleNamespace(**{**vars(people), "stores": [*people.stores[:2], blind]})
    with pytest.raises(CohortError, match=r"show a landmark, but these do not: scan2\n"):
        run(model, some, tmp_path, [0, 1, 2])
    with pytest.raises(WeightsError, match="cannot be read"):
        run(tmp_path / "none.safetensors", people, tmp_path, [0])
