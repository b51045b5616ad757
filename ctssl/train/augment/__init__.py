"""Augmentation on the training device: a step a class, each drawn from keys and applied to a batch."""

from ctssl.train.augment.pipeline import apply, augmented, draw, to_window
from ctssl.train.augment.step import Frame, Share

__all__ = ["Frame", "Share", "apply", "augmented", "draw", "to_window"]
