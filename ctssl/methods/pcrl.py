"""pcrl: crops that overlap are told from other scans', and restored turned as the network is told.

Three sides look at a pair of crops: the network that is trained sees the first (own), one that follows it
the second (momentum), and a mixture of their maps stands for a mixture of both crops (hybrid). One decoder
serves them all.

Source: Zhou et al., "Preservational Learning Improves Self-supervised Medical Image Models by Reconstructing
Diverse Contexts", ICCV 2021; Luchixiang/PCRL@197bf91 where the options say so.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.config.augment import Augment
from ctssl.config.methods import Pcrl as Options
from ctssl.methods import Made, Phase
from ctssl.methods.contrast import KeyQueue, Keys, follow, info_nce
from ctssl.methods.windowed import window_features
from ctssl.networks.indicated import Head, mixed
from ctssl.networks.unet3d import UNet3D, WayDown
from ctssl.prepare.atlas import Atlas
from ctssl.train import augment
from ctssl.train.augment.orient import Turn, turn
from ctssl.train.augment.step import Stream
from ctssl.train.batches import Batch
from ctssl.train.croppairs import CropPairs
from ctssl.train.cuts import Windows
from ctssl.train.random import of_view, uniform

TURNS = Augment(steps=("turn",))
"""How targets are turned: a coin for a flip along each axis, any of four quarter turns about z."""

TOLD = 1
"""The view of a key whose numbers turn targets; the key's own numbers make what is seen."""


class Embedder(nn.Module):
    """The U-Net, of which features use the way down.

    Attributes:
        network: the U-Net.
        cut: the windows that `embed` is given of a scan.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.cut = Windows(options.crop_voxels, options.window_step, options.least_lung)
        self.network = UNet3D(width=options.width)

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """(B, 16W): the mean of the bottleneck over space and windows; the projector is not part of it."""
        self.eval()
        window = self.options.hu_min, self.options.hu_max
        return window_features(
            batch.patches, batch.counts, window, lambda x: self.network.bottleneck(x).mean((2, 3, 4))
        )


@dataclass(frozen=True)
class Pairs:
    """The crops of a batch, window as 0 to 1.

    Attributes:
        clean: first and second crops, (B, Z, Y, X) each.
        seen: the same as the networks see them, (B, 1, X, Y, Z) each: the order of axes that windows have.
        turns: of the targets of own, momentum and hybrid side.
        share: (B,) of the first crop in a mixture.
    """

    clean: tuple[Tensor, Tensor]
    seen: tuple[Tensor, Tensor]
    turns: tuple[Turn, Turn, Turn]
    share: Tensor


class Side(NamedTuple):
    """Maps (B, C, X, Y, Z) of the upper levels, of the lowest, and the lowest with attention."""

    skips: list[Tensor]
    bottleneck: Tensor
    attended: Tensor


class Pcrl(nn.Module):
    """The method.

    Attributes:
        query: the embedder that is trained and kept.
        head: its attention and projector.
        key: the way down that follows.
        key_head: its attention and projector, which follow too.
        queue: what was projected of scans.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.query = Embedder(options)
        self.head, self.key_head = (
            Head(options.attention, 16 * options.width, options.projection_size) for _ in range(2)
        )
        self.key = WayDown(width=options.width).requires_grad_(False)
        self.key_head.requires_grad_(False)
        self._follow(0.0)
        self.queue = KeyQueue(1, options.queue_size, options.projection_size)

    @classmethod
    def build(cls, options: Options, atlas: Atlas) -> "Pcrl":
        """The method with fresh weights from torch's random numbers."""
        return cls(options)

    @classmethod
    def embedder(cls, options: Options, landmarks: int = 0) -> Embedder:
        """What weights are loaded into."""
        return Embedder(options)

    def phases(self) -> list[Phase]:
        """One: pairs are contrasted and restored."""
        o = self.options
        alike, tissue = o.pair_sizes == "same", (o.tissue_hu, o.most_tissue, o.tries)
        phase = Phase(
            name="pair",
            unit="crop",
            batch=o.crop_batch,
            rounds=1,
            parameters=[*self.query.parameters(), *self.head.parameters()],
            groups=o.bn_groups,
            keys=self.pair_keys,
            key_features=o.projection_size * (3 if o.form == "paper" else 1),
            loss=self.pair_loss,
            cut=CropPairs(o.crop_voxels, o.crop_sizes, alike, o.least_overlap, *tissue),
        )
        return [phase]

    @torch.no_grad()
    def pair_keys(self, batch: Batch) -> Tensor:
        """(B, nP) of length one: the momentum side's projections; in form paper the others', too."""
        self.train()
        pairs = self._pairs(batch)
        momentum = self._momentum(pairs, batch.groups)
        found = [self._projected(self.key_head, momentum)]
        if self.options.form == "paper":
            own = self._own(pairs, batch.groups)
            hybrid = self._hybrid(pairs, own, momentum)
            found += [self._projected(self.head, side) for side in (own, hybrid)]
        return functional.normalize(torch.cat(found, 1))

    def pair_loss(self, batch: Batch, keys: Tensor | None) -> dict[str, Tensor]:
        """Contrast of own projections with the momentum side's, and restoration, by the form's weights.

        `own`, `momentum` and `hybrid` are the mean squared errors of what is decoded of each side;
        `input_error` is that of the spoiled first crops, before any turn.
        """
        assert keys is not None, "the phase makes keys"
        self.train()
        o, pairs = self.options, self._pairs(batch)
        own, momentum = self._own(pairs, batch.groups), self._momentum(pairs, batch.groups)
        hybrid = self._hybrid(pairs, own, momentum)
        positive = Keys(self._vectors(keys)[0], batch.subjects)
        query, negatives = self._projected(self.head, own), self.queue.keys(0)
        contrast = info_nce(query, positive, negatives, o.temperature, random=o.random_negatives)
        errors = self._errors(pairs, {"own": own, "momentum": momentum, "hybrid": hybrid}, batch.groups)
        together = torch.stack(list(errors.values()))
        if o.form == "paper":
            restoration = together.sum()
            total = (contrast["total"] + restoration) / 2
        else:
            restoration = together.mean()
            total = contrast["total"] + restoration
        input_error = functional.mse_loss(pairs.seen[0], _shown(pairs.clean[0]))
        terms = {"contrast": contrast["total"], "restoration": restoration, **errors}
        told = {"input_error": input_error, "queue_age": self.queue.age(0)}
        return {**contrast, **terms, **told, "total": total}

    def networks(self) -> list[nn.Module]:
        """The U-Net, and the way down that follows."""
        return [self.query.network, self.key]

    def before_loss(self, phase: Phase, made: Made) -> None:
        """With batch_negatives the queue takes what was made in this step; own subjects are masked."""
        if self.options.batch_negatives:
            self._enqueue(made)

    def after_step(self, phase: Phase, made: Made | None) -> None:
        """The key side follows; without batch_negatives the queue takes what was made in this step."""
        assert made is not None, "the phase makes keys"
        self._follow(self.options.momentum)
        if not self.options.batch_negatives:
            self._enqueue(made)

    def embed(self, batch: Batch) -> Tensor:
        """(B, 16W) features of the scans' windows."""
        return self.query.embed(batch)

    def _follow(self, momentum: float) -> None:
        """Moves way down, attention and projector of the key side."""
        query = nn.ModuleList([*self.query.network.levels, self.head])
        follow(nn.ModuleList([*self.key.levels, self.key_head]), query, momentum)

    def _enqueue(self, made: Made) -> None:
        """The queue takes the vectors of all sides that are queued."""
        vectors = self._vectors(made.vectors)
        self.queue.enqueue(0, Keys(torch.cat(vectors), made.subjects.repeat(len(vectors))))

    def _vectors(self, keys: Tensor) -> list[Tensor]:
        """What `pair_keys` put together: (B, P) of length one of each side, the momentum side's first."""
        return [functional.normalize(part) for part in keys.split(self.options.projection_size, 1)]

    def _pairs(self, batch: Batch) -> Pairs:
        """What the sides are shown."""
        o, keys = self.options, batch.random
        clean = self._changed(o.move, batch.patches, keys)
        spoiled = self._changed(o.corrupt, clean, keys)
        crops = [self._unit(hu).unflatten(0, (-1, CropPairs.number)).unbind(1) for hu in (clean, spoiled)]
        (first, second), seen = crops
        told = [*keys.view(-1, CropPairs.number).unbind(1), batch.scan_random]
        own, momentum, hybrid = (Turn.draw(TURNS, of_view(k, TOLD), self._frame(clean)) for k in told)
        share = uniform(batch.scan_random, Stream.MIXUP, 1)[:, 0]  # Beta(1, 1)
        share = share if o.form == "paper" else torch.maximum(share, 1 - share)
        return Pairs((first, second), (_shown(seen[0]), _shown(seen[1])), (own, momentum, hybrid), share)

    def _own(self, pairs: Pairs, groups: tuple[int, ...]) -> Side:
        """Of the first crops, by the network that is trained."""
        *skips, low = self.query.network.down(pairs.seen[0], groups)
        return Side(skips, low, self.head.attention(low, indicators(pairs.turns[0])))

    @torch.no_grad()
    def _momentum(self, pairs: Pairs, groups: tuple[int, ...]) -> Side:
        """Of the second crops, by the one that follows."""
        *skips, low = self.key.down(pairs.seen[1], groups)
        return Side(skips, low, self.key_head.attention(low, indicators(pairs.turns[1])))

    def _hybrid(self, pairs: Pairs, own: Side, momentum: Side) -> Side:
        """Of both; in form paper with an attention, and so a turn, of its own."""
        skips = [mixed(a, b, pairs.share) for a, b in zip(own.skips, momentum.skips, strict=True)]
        low = mixed(own.bottleneck, momentum.bottleneck, pairs.share)
        if self.options.form == "paper":
            return Side(skips, low, self.head.attention(low, indicators(pairs.turns[2])))
        return Side(skips, low, mixed(own.attended, momentum.attended, pairs.share))

    def _projected(self, head: Head, side: Side) -> Tensor:
        """(B, P) of length one: of what is attended to in form paper, else of the bottleneck."""
        return head.project(side.attended if self.options.form == "paper" else side.bottleneck)

    def _errors(self, pairs: Pairs, sides: dict[str, Side], groups: tuple[int, ...]) -> dict[str, Tensor]:
        """Name -> (): the mean squared error of a side's decoding; the momentum side's in form paper only."""
        (first, second), (own, momentum, hybrid) = pairs.clean, pairs.turns
        targets = {"own": turned(first, own), "momentum": turned(second, momentum)}
        if self.options.form == "paper":
            targets["hybrid"] = turned(mixed(first, second, pairs.share), hybrid)
        else:
            targets["hybrid"] = mixed(targets["own"], targets.pop("momentum"), pairs.share)
        errors = {}
        for name, target in targets.items():
            decoded = self.query.network.up([*sides[name].skips, sides[name].attended], groups)
            errors[name] = functional.mse_loss(decoded.float(), _shown(target))
        return errors

    def _frame(self, hu: Tensor) -> augment.Frame:
        depth, height, width = hu.shape[1:]
        return augment.Frame((depth, height, width), self.options.hu_min, self.options.hu_max)

    def _changed(self, how: Augment, hu: Tensor, keys: Tensor) -> Tensor:
        """(M, Z, Y, X) HU of crops, each changed for itself, none beyond the window."""
        frame, each = self._frame(hu), torch.arange(len(keys), device=keys.device)
        return augment.apply(augment.draw(how, keys, frame), hu, augment.Share(each, keys), frame)

    def _unit(self, hu: Tensor) -> Tensor:
        """The window as 0 to 1."""
        low, high = self.options.hu_min, self.options.hu_max
        return (hu - low) / (high - low)


def indicators(turns: Turn) -> Tensor:
    """(B, 7) of 0 and 1: flips along x, y and z, and which of four quarter turns."""
    which = torch.arange(4, device=turns.quarters.device)
    return torch.cat([turns.flips.flip(1), turns.quarters[:, None] == which], 1).float()


def turned(values: Tensor, turns: Turn) -> Tensor:
    """(B, Z, Y, X) turned."""
    return turn(values, turns.quarters, turns.flips)


def _shown(values: Tensor) -> Tensor:
    """(B, 1, X, Y, Z) of (B, Z, Y, X), as a network takes it in and puts it out."""
    shown = values.permute(0, 3, 2, 1)[:, None]
    return shown.contiguous(memory_format=torch.channels_last_3d)
