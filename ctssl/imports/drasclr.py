"""DrasCLR: one file of the location-conditioned encoder; the published landmarks go with it.

Source: batmanlab/DrasCLR@899e313.
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from ctssl.imports import Converted
from ctssl.imports.context_aware import COORDINATES
from ctssl.imports.state import MOCO, State, one


def convert(states: Sequence[State]) -> Converted:
    """The tensors of the encoder, the places that it was trained with, the options that shapes tell."""
    state = one(states).without(MOCO).stripped("encoder_q.")
    tensors = {f"encoder.{name}": tensor for name, tensor in state.tensors.items()}
    tensors["coordinates"] = published_places()
    options: dict[str, Any] = {}
    kernels = state.shape("conv4.weight")
    if len(kernels) == 6:
        options = {"experts": kernels[0], "feature_size": kernels[1]}
    return Converted(options, tensors, state.dropped, {"coordinates": COORDINATES})


def published_places() -> Tensor:
    """(581, 3) x, y, z of the published atlas's landmarks in [0, 1]: corner / max.

    The features of DrasCLR depend on them; ours, of centres, would ask for other kernels.
    """
    lines = (files("ctssl.imports") / "landmarks.csv").read_text().split()[1:]
    corners = torch.tensor([[int(cell) for cell in line.split(",")] for line in lines])
    return (corners / corners.amax(0)).float()
