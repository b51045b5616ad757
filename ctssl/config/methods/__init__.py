"""Options of every method, a file each; torch-free. Each default names its source."""

from ctssl.config.methods.autoencoder import Autoencoder
from ctssl.config.methods.base import MethodOptions
from ctssl.config.methods.context_aware import ContextAware, Untrained
from ctssl.config.methods.drasclr import DrasCLR
from ctssl.config.methods.frozen import MedicalNet
from ctssl.config.methods.moco import MocoV2
from ctssl.config.methods.models_genesis import ModelsGenesis
from ctssl.config.methods.pcrl import Pcrl
from ctssl.config.methods.supervised import Cnn3D, SliceCnn, Subject2Vec, Supervised
from ctssl.config.methods.voco import Voco

__all__ = [
    "OPTIONS",
    "Autoencoder",
    "Cnn3D",
    "ContextAware",
    "DrasCLR",
    "MedicalNet",
    "MethodOptions",
    "MocoV2",
    "ModelsGenesis",
    "Pcrl",
    "SliceCnn",
    "Subject2Vec",
    "Supervised",
    "Untrained",
    "Voco",
]

OPTIONS: dict[str, type[MethodOptions]] = {
    "autoencoder": Autoencoder,
    "cnn-3d": Cnn3D,
    "context-aware": ContextAware,
    "drasclr": DrasCLR,
    "medicalnet": MedicalNet,
    "moco-v2": MocoV2,
    "models-genesis": ModelsGenesis,
    "pcrl": Pcrl,
    "slice-cnn": SliceCnn,
    "subject2vec": Subject2Vec,
    "untrained": Untrained,
    "voco": Voco,
}
