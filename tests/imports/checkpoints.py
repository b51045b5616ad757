"""Files as authors of published weights save them, with the weights of tests/golden; how one is refused."""

from pathlib import Path

import pytest
import torch
from golden import fill

from ctssl.errors import CtsslError
from ctssl.imports.importing import import_weights


def prefixed(tensors, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def moco(tensors, prefix="module."):
    """As Context_Aware_SSL and DrasCLR: both encoders, queues, the state of SGD."""
    state = prefixed(tensors, f"{prefix}encoder_q.") | prefixed(tensors, f"{prefix}encoder_k.")
    state |= {f"{prefix}queue": torch.rand(4, 6, 3), f"{prefix}queue_ptr": torch.zeros(3, dtype=torch.long)}
    momenta = {i: {"momentum_buffer": torch.zeros(2)} for i in range(5)}
    optimiser = {"state": momenta, "param_groups": [{"lr": 0.03, "params": [*range(5)]}]}
    return {"epoch": 3, "arch": "custom3dcnn", "state_dict": state, "optimizer": optimiser}


def genesis(tensors):
    """As Models Genesis."""
    return {"epoch": 7, "state_dict": prefixed(tensors, "module."), "optimizer_state_dict": {"state": {}}}


def medicalnet(tensors):
    """As MedicalNet, with torch of a time that had no counters in batch norm."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    return {"state_dict": prefixed(kept, "module.")}


def older_graph(tensors):
    """The tensors of a graph network as PyG 1.6.1 to 1.7 stores them: the weight is (in, out)."""
    older = dict(tensors)
    older["conv1.weight"] = older.pop("conv1.lin.weight").T.contiguous()
    return older


def old_graph(tensors):
    """As PyG up to 1.6.0, which names the batch norm otherwise, too."""
    return {name.replace("bn1.module.", "bn1."): tensor for name, tensor in older_graph(tensors).items()}


def saved(path: Path, content, **how) -> Path:
    torch.save(content, path, **how)
    return path


def patch_file(folder: Path, wrap=moco, name="checkpoint_patch.pth.tar") -> Path:
    return saved(folder / name, wrap(fill.state("context_aware_patch")))


def graph_file(folder: Path, tensors=lambda state: state, wrap=moco) -> Path:
    return saved(folder / "checkpoint_graph.pth.tar", wrap(tensors(fill.state("context_aware_graph"))))


def refused(folder, *files, method="context-aware"):
    """The error."""
    out = folder / "out" / "model.safetensors"
    with pytest.raises(CtsslError) as fault:
        import_weights(files, method, out)
    assert fault.value.advice
    assert len(str(fault.value)) < 6000
    assert not out.parent.exists()
    return fault.value
