"""Files as the authors of published weights save them, with the weights of tests/golden."""

from pathlib import Path

import torch
from golden import fill


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


def old_graph(tensors):
    """The tensors of a graph network as PyG up to 1.6.0 names them, and stores (in, out)."""
    old = {name.replace("bn1.module.", "bn1."): tensor for name, tensor in tensors.items()}
    old["conv1.weight"] = old.pop("conv1.lin.weight").T.contiguous()
    return old


def saved(path: Path, content, **how) -> Path:
    torch.save(content, path, **how)
    return path


def patch_file(folder: Path, wrap=moco, name="checkpoint_patch.pth.tar") -> Path:
    return saved(folder / name, wrap(fill.state("context_aware_patch")))


def graph_file(folder: Path, tensors=lambda state: state, wrap=moco) -> Path:
    return saved(folder / "checkpoint_graph.pth.tar", wrap(tensors(fill.state("context_aware_graph"))))
