"""Context_Aware_SSL: a file of the patch encoder and, maybe, one of the graph network.

Source: batmanlab/Context_Aware_SSL@6fa7acb.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ctssl.errors import WeightsError
from ctssl.imports import Converted
from ctssl.imports.state import MOCO, State
from ctssl.networks.graph import released_graph_state

COORDINATES = "corner / max"
"""Of the landmarks that the released networks were trained with: lowest voxel of a patch, over the largest of
all. Ours are centres from 0 to 1."""


def convert(states: Sequence[State]) -> Converted:
    """The tensors of encoder and graph network, and the options that their shapes tell.

    Raises:
        WeightsError: the files are not one of patches and at most one of graphs.
    """
    plain = [state.without(MOCO).stripped("encoder_q.") for state in states]
    graphs = [state for state in plain if _is_graph(state)]
    patches = [state for state in plain if not _is_graph(state)]
    if len(patches) != 1 or len(graphs) > 1:
        raise WeightsError(
            f"{len(patches)} files of a patch encoder and {len(graphs)} of a graph network came",
            "give checkpoint_patch.pth.tar and, unless it is 'w/o Graph', checkpoint_graph.pth.tar",
        )
    tensors = {f"encoder.{name}": tensor for name, tensor in patches[0].tensors.items()}
    notes = []
    if graphs:
        graph = _graph(graphs[0])
        tensors |= {f"graph.{name}": tensor for name, tensor in graph.items()}
        if "conv1.weight" in graphs[0].tensors:
            notes.append("the weight of the graph convolution is stored (in, out), as PyG up to 1.7 does")
    else:
        notes.append("no file of the graph network came: features are means over patches ('w/o Graph')")
    dropped = sum((state.dropped for state in plain), Counter[str]())
    return Converted(
        _options(patches[0], bool(graphs)), tensors, dropped, {"coordinates": COORDINATES}, notes
    )


def _graph(state: State) -> dict[str, Tensor]:
    """The tensors of the graph network as versions of PyG from 2.0 on name and turn them."""
    if {"conv1.weight", "conv1.lin.weight"} <= state.tensors.keys():
        raise WeightsError(
            f"{state.path} holds the weight of its graph convolution twice, as old and new versions of PyG",
            "which of them was trained, only its authors know: name the file that they published",
        )
    return released_graph_state(state.renamed({"bn1.module.": "bn1."}))


def _is_graph(state: State) -> bool:
    return "conv1.lin.weight" in state.tensors or len(state.shape("conv1.weight")) == 2


def _options(patch: State, graph: bool) -> dict[str, Any]:
    """What shapes tell; of tensors that are not there the default, so that the check lists them."""
    options: dict[str, Any] = {"graph": graph}
    width, head = patch.shape("conv4.weight"), patch.shape("fc.0.weight")
    if width:
        options["feature_size"] = width[0]
    if width and len(head) == 2:
        options["conditional"] = head[1] != width[0]
    if "fc.4.weight" in patch.tensors:
        options["head_layers"] = 3
    return options
