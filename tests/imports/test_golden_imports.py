"""Published files, imported and loaded, give what the released networks give: every case of tests/golden."""

from argparse import Namespace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from golden import fill
from imports import checkpoints

from ctssl.imports.importing import import_weights
from ctssl.networks.graph import Graphs
from ctssl.train import weights

needs_monai = pytest.mark.skipif(
    not (find_spec("monai") and find_spec("einops")), reason="the extra voco (monai, einops) is not installed"
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


def imported(folder, method, *files, **chosen):
    """The embedder, as a run loads it; options that are chosen."""
    out = folder / f"model-{len([*folder.iterdir()])}.safetensors"
    import_weights(files, method, out, chosen=chosen)
    return weights.load(out, None).embedder


def same(found, expected):
    """Within 1e-4 of the largest, and each within 1e-4 of itself."""
    assert np.abs(found.numpy() - expected).max() <= 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)


def whole(state):
    return {"state_dict": state}


@pytest.mark.parametrize("wrap", [checkpoints.moco, lambda state: checkpoints.moco(state, ""), whole, dict])
@pytest.mark.parametrize("layout", [dict, checkpoints.older_graph, checkpoints.old_graph])
def test_context_aware(tmp_path, wrap, layout):
    files = checkpoints.patch_file(tmp_path, wrap), checkpoints.graph_file(tmp_path, layout, wrap)
    network = imported(tmp_path, "context-aware", *files)
    patch, graph = fill.outputs("context_aware_patch"), fill.outputs("context_aware_graph")
    features = network.encoder.trunk(fill.volume(6))
    same(features, patch["features"])
    same(network.encoder.project(features, fill.coordinates(6)), patch["projection"])
    graphs = Graphs([6], torch.tensor(fill.EDGES))
    same(network.graph.nodes(features, graphs), graph["nodes"])
    same(network.graph.subjects(features, graphs)[0], graph["subject"])


def test_context_aware_patches_in_hu(tmp_path):
    """The window is that of the release: [-1024, 240] becomes [-1, 1]."""
    network = imported(tmp_path, "context-aware", checkpoints.patch_file(tmp_path))
    hu = (fill.volume(6)[:, 0] + 1) * 632 - 1024
    same(network.embed_patches(hu, torch.zeros(6, 3)), fill.outputs("context_aware_patch")["features"])


def test_drasclr(tmp_path):
    path = checkpoints.saved(tmp_path / "checkpoint.pth.tar", checkpoints.moco(fill.state("drasclr")))
    network, golden = imported(tmp_path, "drasclr", path), fill.outputs("drasclr")
    same(network.encoder.trunk(fill.volume(6), fill.coordinates(6) * 2 - 1), golden["features"])
    same(network.encoder(fill.volume(6), fill.coordinates(6) * 2 - 1), golden["projection"])
    hu = (fill.volume(6)[:, 0] + 1) * 632 - 1024
    same(network.embed_patches(hu, fill.coordinates(6)), golden["features"])


def test_models_genesis(tmp_path):
    state = fill.state("models_genesis_running")
    path = checkpoints.saved(tmp_path / "Genesis_Chest_CT.pt", checkpoints.genesis(state))
    running = imported(tmp_path, "models-genesis", path).network
    released = imported(tmp_path, "models-genesis", path, batch_statistics=True).network
    x = fill.box(2, 64, 64, 32) * 0.5 + 0.5
    for network, case in ((running, "running"), (released, "batchstats")):
        golden = fill.outputs(f"models_genesis_{case}")
        same(network.bottleneck(x).mean((2, 3, 4)), golden["bottleneck"])
        same(network(x).mean((2, 3, 4)), golden["output"])


def test_pcrl(tmp_path):
    state = fill.state("pcrl")
    content = {
        "opt": Namespace(lr=0.001),
        "state_dict": state,
        "model_ema": checkpoints.prefixed(state, "module."),
    }
    path = checkpoints.saved(tmp_path / "pcrl.pt", content)
    network = imported(tmp_path, "pcrl", path).network
    found = network.bottleneck(fill.box(2, 64, 64, 32) * 0.5 + 0.5).mean((2, 3, 4))
    same(found, fill.outputs("pcrl")["bottleneck"])
    head = [state[f"fc{i}.{kind}"] for i in (1, 2) for kind in ("weight", "bias")]
    hidden = torch.nn.functional.linear(found, *head[:2]).relu()
    same(torch.nn.functional.linear(hidden, *head[2:]), fill.outputs("pcrl")["projection"])


@pytest.mark.parametrize("depth", [10, 50])
def test_medicalnet(tmp_path, depth):
    name = f"medicalnet_resnet{depth}"
    path = tmp_path / f"resnet_{depth}_23dataset.pth"
    checkpoints.saved(path, checkpoints.medicalnet(fill.state(name)), _use_new_zipfile_serialization=False)
    embedder = imported(tmp_path, "medicalnet", path)
    assert embedder.options.depth == depth
    same(embedder.network.features(fill.box(2, 32, 48, 40)), fill.outputs(name)["features"])


@needs_monai
@pytest.mark.parametrize("old", [False, True])
def test_voco(tmp_path, old):
    state = fill.state("voco_swinunetr_v2")
    state = {n: t for n, t in state.items() if not n.endswith("relative_position_index")}
    if old:
        renamed = {"swinViT.": "swin_vit.", ".mlp.linear": ".mlp.fc"}
        for new, there in renamed.items():
            state = {name.replace(new, there): tensor for name, tensor in state.items()}
        state = {"net": checkpoints.prefixed(state, "module.backbone.")}
    embedder = imported(tmp_path, "voco", checkpoints.saved(tmp_path / "VoCo_10k.pt", state))
    same(
        embedder.network.features(fill.box(1, 64, 64, 64) * 0.5 + 0.5),
        fill.outputs("voco_swinunetr_v2")["features"],
    )


def test_no_case_is_left_out():
    """A new file in tests/golden needs a test here."""
    cases = {path.name.removesuffix(".keys.json") for path in fill.HERE.glob("*.keys.json")}
    assert cases == {
        *("context_aware_patch", "context_aware_graph", "drasclr", "pcrl", "voco_swinunetr_v2"),
        *(f"models_genesis_{kind}" for kind in ("running", "batchstats")),
        *(f"medicalnet_resnet{depth}" for depth in (10, 50)),
    }
