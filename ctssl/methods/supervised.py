"""What supervised methods share: a network that is trained on labels, the best state of which is kept.

A method of this kind is a Network of its own and three lines that name it; see ctssl.methods.cnn3d.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.config.methods import Supervised as Options
from ctssl.methods import Made, Phase
from ctssl.prepare.atlas import Atlas
from ctssl.train.augment.step import Stream
from ctssl.train.batches import Batch
from ctssl.train.labels import Task
from ctssl.train.random import uniform


@dataclass(frozen=True)
class Said:
    """What a network says of a batch's scans.

    Attributes:
        outputs: (B, K) numbers to regress (K = 1), or one a class before softmax.
        features: (B, F) what they are made from.
        terms: of the loss, means over the scans, that are added to that of the labels.
    """

    outputs: Tensor
    features: Tensor
    terms: dict[str, Tensor]


class Network(nn.Module):
    """An Embedder with outputs; a subclass says in `forward` what it makes of a batch, as a Said.

    One that sees what is cut from boxes has an attribute `cut`, of one piece a scan. In training mode
    `forward` draws augmentation and dropout from the batch's keys, and from nothing else.
    """

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """(B, F) float32 features of the batch's scans, in evaluation mode."""
        return self.eval()(batch).features.float()

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """(B, K) float32 outputs for the batch's scans, in evaluation mode."""
        return self.eval()(batch).outputs.float()


def dropped(features: Tensor, keys: Tensor, share: float) -> Tensor:
    """(B, F) features, a share of them 0 and the others larger for it; which ones follows from keys (B,)."""
    if share == 0:
        return features
    kept = uniform(keys, Stream.DROPOUT, features.shape[1]) >= share
    return features * kept / (1 - share)


def errors(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """(B,) float32 loss of each scan: squared error, or cross entropy times the weight of its class.

    Args:
        outputs: (B, K).
        targets: (B,) as `Labels.targets` gives them.
        task: what they mean.
    """
    if not task.classes:
        return (outputs[:, 0].float() - targets).square()
    numbers = targets.long()
    weights = torch.tensor(task.weights, device=outputs.device)[numbers]
    return weights * functional.cross_entropy(outputs.float(), numbers, reduction="none")


class Supervised(nn.Module):
    """A method that is trained on labels.

    Attributes:
        network: that is trained.
        query: the Network that is kept: a copy of it, from the epoch with the lowest validation loss.
        best: that loss.
        waited: epochs since then.
    """

    network_class: ClassVar[type[Network]]
    best: Tensor
    waited: Tensor

    def __init__(self, options: Options, atlas: Atlas, task: Task) -> None:
        super().__init__()
        self.options, self.task = options, task
        self.network = self.fresh(options, atlas, task.outputs)
        self.query = deepcopy(self.network).requires_grad_(False)
        self.register_buffer("best", torch.tensor(torch.inf, dtype=torch.float64))
        self.register_buffer("waited", torch.tensor(0))

    @classmethod
    def build(cls, options: Options, atlas: Atlas, task: Task) -> "Supervised":
        """The method with fresh weights from torch's random numbers."""
        return cls(options, atlas, task)

    @classmethod
    def fresh(cls, options: Options, atlas: Atlas, outputs: int) -> Network:
        """The network with fresh weights, and with what it keeps of the atlas."""
        return cls.embedder(options, len(atlas.landmarks_mm), outputs)

    @classmethod
    def embedder(cls, options: Options, landmarks: int = 0, outputs: int = 1) -> Network:
        """What weights are loaded into."""
        return cls.network_class(options, outputs)

    def batch(self) -> int:
        """Scans in a step."""
        raise NotImplementedError

    def phases(self) -> list[Phase]:
        """One: labels are predicted."""
        cut = getattr(self.network, "cut", None)
        phase = Phase(
            name="labels",
            unit="scan" if cut is None else "volume",
            batch=self.batch(),
            rounds=1,
            parameters=list(self.network.parameters()),
            groups=self.options.bn_groups,
            keys=None,
            key_features=0,
            loss=self.label_loss,
            cut=cut,
        )
        return [phase]

    def label_loss(self, batch: Batch, keys: Tensor | None) -> dict[str, Tensor]:
        """The mean loss of the scans' labels, and what the network adds to it."""
        said = self.said(batch)
        labels = errors(said.outputs, batch.targets, self.task).mean()
        if not said.terms:
            return {"total": labels}
        return {"total": torch.stack([labels, *said.terms.values()]).sum(), "labels": labels, **said.terms}

    def said(self, batch: Batch) -> Said:
        """What the network says of a batch while training."""
        said: Said = self.network.train()(batch)
        return said

    def networks(self) -> list[nn.Module]:
        """The one that is trained."""
        return [self.network]

    def before_loss(self, phase: Phase, made: Made) -> None:
        """Not called: there are no keys."""

    def after_step(self, phase: Phase, made: Made | None) -> None:
        """Nothing follows; what is kept changes after epochs."""

    def after_epoch(self, loss: float | None) -> None:
        """Nothing; keeps the network's state when its validation loss is the lowest yet, or there is none."""
        if loss is not None and not loss < float(self.best):
            self.waited += 1
            return
        self.query.load_state_dict(self.network.state_dict())
        self.waited.zero_()
        if loss is not None:
            self.best.fill_(loss)

    def embed(self, batch: Batch) -> Tensor:
        """(B, F) features of the scans."""
        return self.query.embed(batch)
