"""What an import keeps, leaves out, and says on the card."""

import json
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from golden import fill
from imports import checkpoints
from pydantic import ValidationError
from safetensors.torch import save_file
from train import synthetic

from ctssl.cli import cli
from ctssl.config import read
from ctssl.config.methods import OPTIONS
from ctssl.config.runs import Run
from ctssl.errors import ConfigError, CtsslError, MachineFault, WeightsError
from ctssl.imports import LAYOUTS, converter
from ctssl.imports.drasclr import published_places
from ctssl.imports.importing import PUBLISHED_ATLAS, PUBLISHED_LANDMARKS, import_weights
from ctssl.imports.state import State
from ctssl.methods import METHODS
from ctssl.networks.resnet3d import ResNet3D
from ctssl.train import weights

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Files of patch encoder and graph network, and the card and words of their import."""
    folder = tmp_path_factory.mktemp("both")
    files = checkpoints.patch_file(folder), checkpoints.graph_file(folder, checkpoints.old_graph)
    said = import_weights(files, "context-aware", folder / "model.safetensors", "MIT")
    return files, json.loads((folder / "model.json").read_text()), said, folder / "model.safetensors"


def test_what_is_left_out_is_counted(both):
    _, _, said, _ = both
    first, left, note = said.splitlines()
    assert "106 tensors" in first
    assert left.endswith("momentum encoder (106 tensors), optimizer state (10 tensors), queues (4 tensors)")
    assert "(in, out)" in note


def test_the_card_says_what_the_weights_are(both):
    files, card, _, path = both
    assert card["method"] == "context-aware"
    assert OPTIONS["context-aware"].model_validate(card["options"]) == OPTIONS["context-aware"]()
    assert (card["window_hu"], card["spacing_mm"], card["axes"]) == ([-1024, 240], 1.0, "LAS")
    assert (card["atlas"], card["landmarks"], card["patch_voxels"]) == (PUBLISHED_ATLAS, 581, 32)
    assert (card["licence"], card["coordinates"]) == ("MIT", "corner / max")
    digests = [sha256(file.read_bytes()).hexdigest() for file in files]
    assert card["imported"] == [{"file": f.name, "sha256": d} for f, d in zip(files, digests, strict=True)]
    assert card["sha256"] == sha256(path.read_bytes()).hexdigest()


def test_weights_of_the_published_atlas_are_for_no_other(both):
    with pytest.raises(WeightsError, match="use weights and scans of one atlas"):
        weights.load(both[3], synthetic.atlas())


@pytest.mark.slow
def test_the_published_atlas_is_the_one_that_the_config_makes(tmp_path):
    from ctssl.prepare.atlas_sources import build_atlas
    from ctssl.prepare.machine import Machine

    config = read(ROOT / "config/copdgene-atlas.yaml")
    settings = {"atlas": config.atlas.model_dump(mode="json")}
    atlas = build_atlas(tmp_path, settings, Machine(config.limits.max_voxels))
    assert (atlas.id, len(atlas.landmarks_mm)) == (PUBLISHED_ATLAS, PUBLISHED_LANDMARKS)
    assert (atlas.axes, atlas.spacing_mm, atlas.patch_voxels) == ("LAS", 1.0, 32)


def test_published_places_are_corners_over_the_largest():
    corners = np.load(ROOT / "atlases/copdgene/patch_loc.npy")
    np.testing.assert_allclose(published_places().numpy(), corners / corners.max(0), rtol=1e-6)
    np.testing.assert_allclose(published_places().amin(0).numpy(), [0.083, 0.273, 0], atol=5e-4)


def test_without_a_graph_network_features_are_means(tmp_path):
    said = import_weights([checkpoints.patch_file(tmp_path)], "context-aware", tmp_path / "a.safetensors")
    assert "no file of the graph network" in said
    assert weights.load(tmp_path / "a.safetensors", None).embedder.graph is None


def test_options_are_read_from_the_tensors(tmp_path):
    state = fill.state("context_aware_patch")
    state |= {"fc.0.weight": torch.rand(128, 128), "fc.0.bias": torch.rand(128)}
    state |= {
        "fc.2.weight": torch.rand(128, 128),
        "fc.4.weight": torch.rand(128, 128),
        "fc.4.bias": torch.rand(128),
    }
    path = checkpoints.saved(tmp_path / "a.pth", checkpoints.moco(state))
    import_weights([path], "context-aware", tmp_path / "a.safetensors")
    options = json.loads((tmp_path / "a.json").read_text())["options"]
    assert (options["conditional"], options["head_layers"], options["graph"]) == (False, 3, False)


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_the_depth_of_medicalnet_is_read_from_its_blocks(depth):
    with torch.device("meta"):
        tensors = ResNet3D(depth).state_dict()
    state = State(Path("a.pth"), tensors, Counter())
    made = converter("medicalnet")([state])
    assert made.options == {"depth": depth}
    assert len(made.tensors) == len(tensors)
    with pytest.raises(WeightsError, match="as no MedicalNet of depth 10, 18, 34 or 50"):
        converter("medicalnet")([state.without({r"layer3\.0\.": "lost"})])


def test_halves_and_doubles_become_float32(tmp_path):
    state = {
        n: t.half() if t.is_floating_point() else t for n, t in fill.state("context_aware_patch").items()
    }
    state["conv1.weight"] = state["conv1.weight"].double()
    path = checkpoints.saved(tmp_path / "a.pth", state)
    import_weights([path], "context-aware", tmp_path / "a.safetensors")
    found = weights.load(tmp_path / "a.safetensors", None).embedder.encoder.conv1.weight
    assert torch.equal(found, state["conv1.weight"].float())


def test_safetensors_come_in_whatever_their_name(tmp_path):
    state = fill.state("context_aware_patch")
    for name in ("a.safetensors", "a.pth"):
        save_file(state, tmp_path / name)
        out = tmp_path / f"out of {name}.safetensors"
        import_weights([tmp_path / name], "context-aware", out)
        found = weights.load(out, None).embedder.encoder.state_dict()
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)


def test_the_trunk_of_pcrl_alone_is_that_of_models_genesis_and_both_are_told(tmp_path):
    """The same names and shapes: nothing in such a file says which it is."""
    trunk = {name: t for name, t in fill.state("pcrl").items() if "fc" not in name}
    genesis = fill.state("models_genesis_running")
    assert {n: t.shape for n, t in trunk.items()} == {n: t.shape for n, t in genesis.items()}
    path = checkpoints.saved(tmp_path / "a.pt", trunk)
    said = import_weights([path], "models-genesis", tmp_path / "a.safetensors")
    assert "--method was taken at its word" in said
    card = json.loads((tmp_path / "a.json").read_text())
    assert (card["atlas"], card["axes"], card["landmarks"]) == (None, None, 0)
    said = import_weights([path], "pcrl", tmp_path / "b.safetensors")
    assert "--method was taken at its word" in said
    assert json.loads((tmp_path / "b.json").read_text())["method"] == "pcrl"
    whole = checkpoints.saved(tmp_path / "whole.pt", fill.state("pcrl"))
    assert "word" not in import_weights([whole], "pcrl", tmp_path / "c.safetensors")


def test_options_that_no_file_tells_are_chosen(tmp_path):
    path = checkpoints.patch_file(tmp_path)
    made = tmp_path / "a.safetensors"
    import_weights([path], "context-aware", made, chosen={"hu_max": 500})
    assert json.loads((tmp_path / "a.json").read_text())["window_hu"] == [-1024, 500]
    for chosen, words in (
        ({"feature_size": 64}, "feature_size is 128, as the files tell"),
        ({"hu_max": -2000}, "hu_min must be below hu_max"),
        ({"windows": 3}, "no such option windows"),
    ):
        with pytest.raises(ConfigError, match=words):
            import_weights([path], "context-aware", tmp_path / "b.safetensors", chosen=chosen)


def test_the_command(tmp_path):
    path, out = checkpoints.patch_file(tmp_path), tmp_path / "new" / "model.safetensors"
    arguments = ["import-weights", str(path), "--method", "context_aware", "--out", str(out)]
    done = CliRunner().invoke(cli, [*arguments, "--option", "hu_max=300", "--licence", "CC-BY-4.0"])
    assert done.exit_code == 0, done.output
    card = json.loads((out.parent / "model.json").read_text())
    assert (card["licence"], card["options"]["hu_max"]) == ("CC-BY-4.0", 300)
    again = CliRunner().invoke(cli, arguments)
    assert isinstance(again.exception, ConfigError)
    assert "is there already" in str(again.exception)
    for more in (["--method", "resnet"], ["--option", "hu_max"], ["--option", "hu_max=[1"]):
        assert CliRunner().invoke(cli, [*arguments, *more]).exit_code == 2


def test_the_names_are_those_of_methods():
    assert LAYOUTS.keys() <= OPTIONS.keys() & METHODS.keys()
    done = subprocess.run(
        [sys.executable, "-c", "import sys, ctssl.imports.commands; print('torch' in sys.modules)"],
        **{"text": True, "capture_output": True, "check": True},
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("method", [name for name, options in OPTIONS.items() if options.frozen])
def test_a_run_of_published_weights_says_where_they_come_from(method):
    with pytest.raises(ValidationError, match=f"ctssl import-weights FILE --method {method}"):
        Run(name="published", method=method)
    assert Run(name="published", method=method, weights=Path("a.safetensors")).options.frozen


@pytest.mark.skipif(find_spec("monai") is not None, reason="the extra voco is installed")
def test_voco_names_its_extra_where_it_is_missing(tmp_path):
    path = checkpoints.saved(
        tmp_path / "a.pt", {"swinViT.patch_embed.proj.weight": torch.rand(48, 1, 2, 2, 2)}
    )
    with pytest.raises(MachineFault, match=r"\[voco\]"):
        import_weights([path], "voco", tmp_path / "a.safetensors")
    card = {"method": "voco", "options": {"trunk": "swin"}, "landmarks": 0, "atlas": None, "spacing_mm": 1.0}
    weights.write(tmp_path / "b.safetensors", {"a": torch.zeros(1)}, card)
    with pytest.raises(CtsslError, match=r"\[voco\]"):
        weights.load(tmp_path / "b.safetensors", synthetic.atlas())
