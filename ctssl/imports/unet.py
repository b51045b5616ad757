"""Models Genesis and PCRL: one file of a 3-D U-Net; PCRL has a projector beside it, which tells them apart.

Source: MrGiovanni/ModelsGenesis@12f7feb, Luchixiang/PCRL@197bf91.
"""

from collections.abc import Sequence

from torch import Tensor

from ctssl.imports import Converted
from ctssl.imports.state import State, one

_PROJECTOR = {r"(aug_)?fc[12]\.(weight|bias)$": "projector"}
_ALIKE = (
    "files of models-genesis, and of pcrl without its projector, have the same tensors: --method was taken "
    "at its word"
)


def convert_models_genesis(states: Sequence[State]) -> Converted:
    """The tensors of the U-Net, which was shown arrays x, y, z."""
    state = one(states)
    return Converted({"axes": "xyz"}, _network(state), state.dropped, notes=[_ALIKE])


def convert_pcrl(states: Sequence[State]) -> Converted:
    """The tensors of the U-Net, without what PCRL puts on it."""
    state = one(states).without(_PROJECTOR)
    return Converted({}, _network(state), state.dropped, notes=[] if state.dropped["projector"] else [_ALIKE])


def _network(state: State) -> dict[str, Tensor]:
    return {f"network.{name}": tensor for name, tensor in state.tensors.items()}
