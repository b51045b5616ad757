import json
from dataclasses import replace

import pytest
import torch
from safetensors import torch as safetensors
from train import synthetic

from ctssl.errors import WeightsError
from ctssl.methods.context_aware import ContextAware
from ctssl.train import weights


@pytest.fixture
def saved(tmp_path):
    options = synthetic.options()
    embedder = ContextAware.embedder(options).to(memory_format=torch.channels_last_3d)
    card = {
        "method": "context-aware",
        "options": options.model_dump(mode="json"),
        "atlas": "synthetic",
        "landmarks": 6,
        "spacing_mm": 1.0,
    }
    weights.save(tmp_path, embedder, card)
    return tmp_path / "model.safetensors", embedder


def test_what_was_saved_is_loaded(saved):
    path, embedder = saved
    model = weights.load(path, synthetic.atlas())
    assert not model.embedder.training
    assert model.embedder.options == synthetic.options()
    states = embedder.state_dict(), model.embedder.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])
    assert not any("queue" in name or "key" in name for name in states[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "other"}, "atlas synthetic, but this atlas has other"),
        ({"spacing_mm": 2.0}, "spacing_mm 1.0, but this atlas has 2.0"),
        ({"landmarks_mm": synthetic.atlas(7).landmarks_mm}, "landmarks 6, but this atlas has 7"),
    ],
)
def test_another_atlas_is_refused(saved, change, words):
    with pytest.raises(WeightsError, match=words):
        weights.load(saved[0], replace(synthetic.atlas(), **change))


def test_a_changed_file_is_noticed(saved):
    path = saved[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="sha256 differs"):
        weights.load(path, synthetic.atlas())
    path.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.load(path, synthetic.atlas())


def test_a_partial_match_lists_what_is_wrong(saved):
    """The card says w/o graph and a wider trunk than the file holds."""
    path = saved[0]
    card = json.loads(path.with_suffix(".json").read_text())
    card["options"] |= {"graph": False, "feature_size": 8, "head_layers": 3}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError) as error:
        weights.load(path, synthetic.atlas())
    missing, unexpected, shapes = error.value.message.splitlines()[1:]
    assert missing == "  missing: encoder.fc.4.bias, encoder.fc.4.weight"
    assert "graph.conv1.lin.weight" in unexpected
    assert "encoder.conv3.weight" in shapes
    assert "the same method and options" in error.value.advice


def test_options_of_another_version_are_refused(saved):
    path = saved[0]
    card = json.loads(path.with_suffix(".json").read_text())
    card["options"]["wizardry"] = 3
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="does not fit this version"):
        weights.load(path, synthetic.atlas())


def test_weights_are_written_as_the_library_writes_them():
    tensors = {
        "b.weight": torch.randn(3, 1, 2),
        "a": torch.randn(5).bfloat16(),
        "steps": torch.tensor(7),
        "none": torch.empty(0, 4),
        "turned": torch.randn(4, 3).T,
        "half": torch.randn(2).half(),
    }
    back = safetensors.load(weights.encoded(tensors))
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert all(back[name].dtype == tensors[name].dtype for name in tensors)
