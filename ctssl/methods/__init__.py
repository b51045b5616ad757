"""Methods: one file each behind one small interface; imported only when a run asks for one."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ctssl.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from ctssl.config.methods import MethodOptions
    from ctssl.prepare.atlas import Atlas
    from ctssl.train.batches import Batch
    from ctssl.train.cuts import Cut

METHODS = {
    "autoencoder": "ctssl.methods.autoencoder:Autoencoder",
    "cnn-3d": "ctssl.methods.cnn3d:Cnn3D",
    "context-aware": "ctssl.methods.context_aware:ContextAware",
    "drasclr": "ctssl.methods.drasclr:DrasCLR",
    "medicalnet": "ctssl.methods.medicalnet:MedicalNet",
    "moco-v2": "ctssl.methods.moco:MocoV2",
    "models-genesis": "ctssl.methods.models_genesis:ModelsGenesis",
    "pcrl": "ctssl.methods.pcrl:Pcrl",
    "slice-cnn": "ctssl.methods.slicecnn:SliceCnn",
    "subject2vec": "ctssl.methods.subject2vec:Subject2Vec",
    "untrained": "ctssl.methods.untrained:Control",
    "voco": "ctssl.methods.voco:Voco",
}
"""Name -> module:class; the names are those of ctssl.config.methods.OPTIONS."""


@dataclass(frozen=True)
class Phase:
    """One kind of training step, as data.

    Attributes:
        name: the word in the history.
        unit: what a sample is. landmark: a batch is one landmark across scans, and a round walks over
            all landmarks with the same scans; patch: one patch a scan, each of another landmark, and a
            round is the same pairs; scan: all valid patches of a scan; crop and volume: what `cut` says, of
            the boxes of whole lungs. A round of the last three is one batch.
        batch: samples per step, at most.
        rounds: rounds in one turn of the cycle of phases.
        parameters: what its optimiser moves.
        groups: batch norm groups of a full batch.
        keys: batch -> (B, F) what the queries of these scans should match, without gradient; they are made
            of all scans before any loss. None: the loss needs none.
        key_features: F.
        loss: (batch, keys of its scans) -> "total", the mean over the scans, which has the gradient, and
            other named means. A batch is shared out (ctssl.train.parts), so it depends on no other scan
            than those of its batch norm groups.
        cut: of units crop and volume.
        neighbours: of unit landmark, (N, k) landmarks whose patches come with a batch of each, from the same
            scans where they show them (ctssl.train.neighbours); None: no others come.
    """

    name: str
    unit: Literal["landmark", "patch", "scan", "crop", "volume"]
    batch: int
    rounds: int
    parameters: "list[nn.Parameter]"
    groups: int
    keys: "Callable[[Batch], Tensor] | None"
    key_features: int
    loss: "Callable[[Batch, Tensor | None], dict[str, Tensor]]"
    cut: "Cut | None" = None
    neighbours: "np.ndarray | None" = None


@dataclass(frozen=True)
class Made:
    """The keys of a whole step.

    Attributes:
        vectors: (B, F).
        subjects: (B,) long.
        landmark: of a batch of one landmark; 0 of whole scans.
    """

    vectors: "Tensor"
    subjects: "Tensor"
    landmark: int


class Embedder(Protocol):
    """The part of a method that is kept: an nn.Module whose state_dict is the weights file.

    One that embeds what is cut from boxes of lungs says so in an attribute `cut` (ctssl.train.cuts): Windows,
    Whole or Planes.
    """

    def embed(self, batch: "Batch") -> "Tensor":
        """(B, D) features of the batch's scans, in evaluation mode, without gradient."""


class PatchEmbedder(Embedder, Protocol):
    """An Embedder that has features of single patches, before any pooling."""

    def embed_patches(self, patches: "Tensor", coordinates: "Tensor") -> "Tensor":
        """(M, D) features in evaluation mode, without gradient.

        Args:
            patches: (M, E, E, E) HU of any type, axes z, y, x; the embedder has the window.
            coordinates: (M, 3) x, y, z of their places in the atlas, float32 in [0, 1] as those of
                `Atlas.coordinates`. A method that takes no place leaves them.
        """


class Method(Protocol):
    """What the training loop asks of a method, which is an nn.Module too."""

    options: Any
    query: Any
    """The Embedder that is trained and kept."""

    @classmethod
    def build(cls, options: "MethodOptions", atlas: "Atlas") -> Any:
        """The method with fresh weights; no disk, no device."""

    @classmethod
    def embedder(cls, options: "MethodOptions", landmarks: int = 0) -> Any:
        """An Embedder with fresh weights, without what only training needs.

        Args:
            options: of the method.
            landmarks: N of the atlas, for those that keep the places of its landmarks with their weights.
        """

    def phases(self) -> list[Phase]:
        """The cycle of phases."""

    def networks(self) -> "list[nn.Module]":
        """Those whose forward passes take the time: torch.compile is worth its minutes there."""

    def before_loss(self, phase: Phase, made: Made) -> None:
        """Queues that take the keys of a step before its losses; not called where a phase makes none."""

    def after_step(self, phase: Phase, made: Made | None) -> None:
        """Momentum, and queues that take the keys afterwards. Buffers change in these two alone."""

    def embed(self, batch: "Batch") -> "Tensor":
        """(B, D) features, as of its Embedder."""


def load_method(name: str) -> Any:
    """The class of a method.

    Raises:
        ConfigError: there is no such method.
    """
    if name not in METHODS:
        raise ConfigError(f"there is no method {name!r}", f"use one of {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    return getattr(import_module(module), attribute)
