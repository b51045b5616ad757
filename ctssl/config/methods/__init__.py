"""Options of every method, a file each; torch-free. Each default names its source."""

from ctssl.config.methods.autoencoder import Autoencoder
from ctssl.config.methods.base import MethodOptions
from ctssl.config.methods.context_aware import ContextAware, Untrained
from ctssl.config.methods.drasclr import DrasCLR
from ctssl.config.methods.frozen import MedicalNet, Pcrl, Voco
from ctssl.config.methods.moco import MocoV2
from ctssl.config.methods.models_genesis import ModelsGenesis

__all__ = [
    "OPTIONS",
    "Autoencoder",
    "ContextAware",
    "DrasCLR",
    "MedicalNet",
    "MethodOptions",
    "MocoV2",
    "ModelsGenesis",
    "Pcrl",
    "Untrained",
    "Voco",
]

OPTIONS: dict[str, type[MethodOptions]] = {
    "autoencoder": Autoencoder,
    "context-aware": ContextAware,
    "drasclr": DrasCLR,
    "medicalnet": MedicalNet,
    "moco-v2": MocoV2,
    "models-genesis": ModelsGenesis,
    "pcrl": Pcrl,
    "untrained": Untrained,
    "voco": Voco,
}
