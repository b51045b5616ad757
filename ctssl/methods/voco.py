"""voco: a crop of the lungs is compared with crops that lie side by side over them, and so finds its place.

Source: Wu, Zhuang, Chen, "VoCo: A Simple-yet-Effective Volume Contrastive Learning Framework for 3D Medical
Image Analysis", CVPR 2024; Luffy03/VoCo@ba7b7bd where the options say so.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.config.methods import Voco as Options
from ctssl.methods import Made, Phase
from ctssl.methods.contrast import follow, spread
from ctssl.methods.windowed import window_features
from ctssl.networks.projector import Projector
from ctssl.networks.pyramid import Pyramid
from ctssl.networks.swin import SwinEncoder
from ctssl.prepare.atlas import Atlas
from ctssl.train import augment
from ctssl.train.basecrops import BaseCrops, overlaps
from ctssl.train.batches import Batch
from ctssl.train.cuts import Windows

LEAST = 1e-6
"""Added to what a logarithm is taken of."""


class Embedder(nn.Module):
    """The network and what it is shown.

    Attributes:
        network: crops to features.
        cut: the windows that `embed` is given of a scan.

    Raises:
        MachineFault: trunk swin, and MONAI is not installed.
    """

    network: Pyramid | SwinEncoder

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.cut = Windows(options.crop_voxels, options.window_step, options.least_lung)
        if options.trunk == "swin":
            self.network = SwinEncoder(options.feature_size, use_v2=options.use_v2)
        else:
            self.network = Pyramid(options.width)

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """(B, F): means of the network's levels, and over windows; the projector is not part of it."""
        self.eval()
        window = self.options.hu_min, self.options.hu_max
        return window_features(batch.patches, batch.counts, window, self.network)


class Voco(nn.Module):
    """The method.

    Attributes:
        query: the embedder that is trained and kept.
        projector: from features to what is compared.
        teacher: network and projector that follow these; empty in form paper.
        cut: the crops of a scan.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.query = Embedder(options)
        self.projector = Projector(self.query.network.size, options.projection_size)
        followed = [self.query.network, self.projector] if options.form == "teacher" else []
        self.teacher = nn.ModuleList(deepcopy(followed)).requires_grad_(False)
        self.cut = BaseCrops(options.crop_voxels, options.grid, options.random_crops)

    @classmethod
    def build(cls, options: Options, atlas: Atlas) -> "Voco":
        """The method with fresh weights from torch's random numbers."""
        return cls(options)

    @classmethod
    def embedder(cls, options: Options, landmarks: int = 0) -> Embedder:
        """What weights are loaded into.

        Raises:
            MachineFault: trunk swin, and MONAI is not installed.
        """
        return Embedder(options)

    def phases(self) -> list[Phase]:
        """One: crops find their places."""
        o = self.options
        phase = Phase(
            name="place",
            unit="crop",
            batch=o.crop_batch,
            rounds=1,
            parameters=[*self.query.parameters(), *self.projector.parameters()],
            groups=o.bn_groups,
            keys=None,
            key_features=0,
            loss=self.place_loss,
            cut=self.cut,
        )
        return [phase]

    def place_loss(self, batch: Batch, keys: Tensor | None) -> dict[str, Tensor]:
        """The form's terms, how likenesses go with overlaps, and how projections spread."""
        self.train()
        crops, bases = self._crops(batch), self.cut.bases
        groups = [scans * self.cut.number for scans in batch.groups]
        flat = functional.normalize(self.projector(self.query.network(crops, groups), groups))
        made = flat.unflatten(0, (-1, self.cut.number))  # (B, bases + randoms, P)
        shares = overlaps(batch.random.view(made.shape[:2])[:, bases:].flatten(), self.cut)
        shares = shares.view(len(made), -1, bases)  # (B, randoms, bases)
        by_teacher = self._by_teacher(crops, groups)
        with torch.autocast(made.device.type, enabled=False):
            if by_teacher is None:
                terms = paper_terms(made, shares)
            else:
                terms = teacher_terms(made, by_teacher.view_as(made), shares)
            with torch.no_grad():
                found = _alike(made[:, bases:], made[:, :bases])
                return terms | agreement(found, shares) | _spread(flat, groups)

    @torch.no_grad()
    def _by_teacher(self, crops: Tensor, groups: list[int]) -> Tensor | None:
        """(M, P) of length one, what the teacher makes of the crops; None where there is none."""
        if self.options.form == "paper":
            return None
        network, projector = self.teacher
        return functional.normalize(projector(network(crops, groups), groups))

    def _crops(self, batch: Batch) -> Tensor:
        """(M, 1, X, Y, Z) augmented crops, window onto 0 to 1: the order of axes that windows have, too."""
        window = self.options.hu_min, self.options.hu_max
        crops = augment.augmented(self.options.augment, batch.patches, batch.random, window)
        crops = crops.add_(1).div_(2).permute(0, 1, 4, 3, 2)
        return crops.contiguous(memory_format=torch.channels_last_3d)

    def networks(self) -> list[nn.Module]:
        """Network and projector."""
        return [self.query.network, self.projector]

    def after_step(self, phase: Phase, made: Made | None) -> None:
        """The teacher follows."""
        if self.options.form == "teacher":
            follow(self.teacher, nn.ModuleList([self.query.network, self.projector]), self.options.momentum)

    def embed(self, batch: Batch) -> Tensor:
        """(B, F) features of the scans' windows."""
        return self.query.embed(batch)


def paper_terms(made: Tensor, shares: Tensor) -> dict[str, Tensor]:
    """`prediction`, mean of -log(1 - |y - l|); `regularisation`, mean |cos| of pairs of bases; their sum.

    The prediction has no gradient into bases.

    Args:
        made: (B, bases + randoms, P) of length one: what each scan's crops became.
        shares: (B, randoms, bases) y, how much of each random crop lies in each base.

    Source: VoCo (CVPR 2024), L_pred and L_reg; l is the cosine from 0 on, as released.
    """
    bases, crops = made.split([shares.shape[2], shares.shape[1]], 1)
    prediction = _missed(_alike(crops, bases.detach()), shares).mean()
    regularisation = _pairs(bases, bases).abs().mean()
    return {
        "total": prediction + regularisation,
        "prediction": prediction,
        "regularisation": regularisation,
    }


def teacher_terms(made: Tensor, by_teacher: Tensor, shares: Tensor) -> dict[str, Tensor]:
    """`positive`, `negative`, `regularisation`, and their sum.

    A likeness l is the mean of two: the student's crop with the teacher's base, and the other way round.
    positive: -log(1 - |y - l|), weighted by y. negative: l^2 where y is 0. regularisation: squares of the
    cosines above 0 of pairs of bases, without gradient into the second of a pair. Each is the mean over
    random crops, or over scans.

    Args:
        made: (B, bases + randoms, P) of length one, the student's.
        by_teacher: the same of the teacher, without gradient.
        shares: (B, randoms, bases) y.

    Source: Luffy03/VoCo@ba7b7bd. It takes the mean over all entries where y is 0.
    """
    sizes = [shares.shape[2], shares.shape[1]]
    (bases, crops), (their_bases, their_crops) = made.split(sizes, 1), by_teacher.split(sizes, 1)
    alike = (_alike(crops, their_bases) + _alike(their_crops, bases)) / 2
    apart = shares == 0
    positive = (shares * _missed(alike, shares)).sum(2).mean()
    negative = ((alike.square() * apart).sum(2) / apart.sum(2).clamp(min=1)).mean()
    regularisation = _pairs(bases, bases.detach()).clamp(min=0).square().mean()
    return {
        "total": positive + negative + regularisation,
        "positive": positive,
        "negative": negative,
        "regularisation": regularisation,
    }


def agreement(alike: Tensor, shares: Tensor) -> dict[str, Tensor]:
    """`correlation` of likenesses with overlaps, the mean over crops; `top1`, how often the largest is one.

    Both (B, randoms, bases). Where all bases are alike the correlation is 0, and the largest is none.
    """
    first, second = (x - x.mean(2, keepdim=True) for x in (alike, shares))
    lengths = first.norm(dim=2) * second.norm(dim=2)
    correlation = (first * second).sum(2) / lengths.clamp(min=LEAST)
    largest = alike.amax(2, keepdim=True)
    only = (alike == largest).sum(2) == 1
    hit = shares.gather(2, alike.argmax(2, keepdim=True))[..., 0] == shares.amax(2)
    return {"correlation": correlation.mean(), "top1": (hit & only).float().mean()}


def _alike(crops: Tensor, bases: Tensor) -> Tensor:
    """(B, randoms, bases) cosines, from 0 on, of vectors of length one."""
    return (crops @ bases.mT).clamp(0, 1)


def _missed(alike: Tensor, shares: Tensor) -> Tensor:
    """-log(1 - |y - l|) of each entry."""
    return -(1 - (shares - alike).abs() + LEAST).log()


def _pairs(first: Tensor, second: Tensor) -> Tensor:
    """(B, pairs) cosines of base i of the first with base j > i of the second."""
    count = first.shape[1]
    i, j = torch.triu_indices(count, count, 1, device=first.device)
    return (first @ second.mT)[:, i, j]


def _spread(flat: Tensor, groups: list[int]) -> dict[str, Tensor]:
    """embedding_std and uniformity of each batch norm group's projections, the mean over crops."""
    found = [spread(part) for part in flat.split(groups)]
    shares = [size / len(flat) for size in groups]
    weighted = {name: [f[name] * share for f, share in zip(found, shares, strict=True)] for name in found[0]}
    return {name: torch.stack(values).sum() for name, values in weighted.items()}
