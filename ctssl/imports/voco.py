"""VoCo: one file of a SwinUNETR, of which the encoder is taken.

Source: Luffy03/VoCo@ba7b7bd.
"""

from collections.abc import Sequence
from typing import Any

from ctssl.imports import Converted
from ctssl.imports.state import State, one

_BESIDE = {
    r"teacher\.": "momentum network",
    r"decoder\d\.|out\.conv": "decoder",
    r"(student\.)?proj_head\.": "projector",
    r".*\.relative_position_index$": "indices that the network computes",
}

_OLD = {"swin_vit.": "swinViT.", ".mlp.fc1.": ".mlp.linear1.", ".mlp.fc2.": ".mlp.linear2."}
"""Names of older versions of MONAI."""

_SHOWN = {"trunk": "swin", "hu_min": -175, "hu_max": 250}
"""What the authors' weights have seen: a window that makes lung all 0."""


def convert(states: Sequence[State]) -> Converted:
    """The tensors of the encoder, its window, its width, and whether it is of the second version."""
    state = one(states).stripped("module.", "backbone.").without(_BESIDE)
    state = state.stripped("module.", "backbone.", "student.").without(_BESIDE)
    tensors = {f"network.{name}": tensor for name, tensor in state.renamed(_OLD).items()}
    options: dict[str, Any] = {**_SHOWN, "use_v2": any(".layers1c." in name for name in tensors)}
    width = tensors.get("network.swinViT.patch_embed.proj.weight")
    if width is not None and width.dim() == 5:
        options["feature_size"] = width.shape[0]
    return Converted(options, tensors, state.dropped)
