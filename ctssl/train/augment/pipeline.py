"""Views of patches: drawing what happens and doing it, step by step, batched, on the patches' device."""

import torch
from torch import Tensor

from ctssl.config.augment import Augment, StepName
from ctssl.train.augment.corrupt import Paint, Shuffle
from ctssl.train.augment.intensity import Blur, Contrast, Curve, Noise, Shift
from ctssl.train.augment.orient import Turn
from ctssl.train.augment.step import Frame, Share, Step
from ctssl.train.augment.warp import Warp

STEPS: dict[StepName, type[Step]] = {
    "gamma": Contrast,
    "noise": Noise,
    "warp": Warp,
    "turn": Turn,
    "blur": Blur,
    "shift": Shift,
    "curve": Curve,
    "shuffle": Shuffle,
    "paint": Paint,
}


def draw(options: Augment, keys: Tensor, frame: Frame) -> tuple[Step, ...]:
    """The steps with the parameters of one draw for each of the keys (G,)."""
    with torch.autocast(keys.device.type, enabled=False):  # bfloat16 would move points by half a voxel
        return tuple(STEPS[name].draw(options, keys, frame) for name in options.steps)


@torch.no_grad()
def apply(steps: tuple[Step, ...], hu: Tensor, share: Share, frame: Frame) -> Tensor:
    """(M, Z, Y, X) float32 augmented HU of patches `hu` of that shape, which stay as they are.

    Args:
        steps: G draws, done in order.
        hu: any type; values beyond the window become its ends'.
        share: who has which draw.
        frame: extent and window.
    """
    with torch.autocast(hu.device.type, enabled=False):
        hu = hu.to(torch.float32, copy=True).clamp_(frame.hu_min, frame.hu_max)
        for step in steps:
            hu = step.apply(hu, share, frame)
        return hu


def augmented(
    options: Augment,
    patches: Tensor,
    keys: Tensor,
    window: tuple[float, float],
    *,
    draws: tuple[Tensor, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(M, 1, Z, Y, X) augmented patches, window onto -1 to 1, in `dtype`.

    Args:
        options: what happens.
        patches: (M, Z, Y, X) HU.
        keys: (M,) of this view of each patch.
        window: hu_min and hu_max.
        draws: keys (G,) and owner (M,) where patches share a draw; else each has its own.
        dtype: of the result; everything before is float32.

    Raises:
        ValueError: not one key for each patch.
    """
    if len(keys) != len(patches):
        msg = f"{len(patches)} patches need as many keys, but there are {len(keys)}: see Batch.drawn"
        raise ValueError(msg)
    depth, height, width = patches.shape[1:]
    frame = Frame((depth, height, width), *window)
    drawn, owner = draws or (keys, torch.arange(len(keys), device=keys.device))
    hu = apply(draw(options, drawn, frame), patches, Share(owner, keys), frame)
    return to_window(hu, *window).to(dtype)


def to_window(hu: Tensor, hu_min: float, hu_max: float) -> Tensor:
    """(M, 1, Z, Y, X) with hu_min as -1 and hu_max as 1; values beyond go beyond."""
    half = (hu_max - hu_min) / 2
    return ((hu - hu_min) / half - 1)[:, None]
