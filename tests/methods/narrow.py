"""The U-Net with few channels, for tests that a laptop does in seconds."""

import pytest
from torch import nn

from ctssl.methods import models_genesis
from ctssl.networks import unet3d
from ctssl.networks.batchnorm import GroupedBatchNorm

FEATURES = 32


class Narrow(unet3d.UNet3D):
    """A sixteenth of the channels; all else is the U-Net's own."""

    def __init__(self, *, batch_statistics=False):
        nn.Module.__init__(self)
        norm = unet3d.BatchStatisticsNorm if batch_statistics else GroupedBatchNorm
        widths = (1, 4, 8, 16, FEATURES)
        names = ("down_tr64", "down_tr128", "down_tr256", "down_tr512")
        for name, given, made in zip(names, widths[:-1], widths[1:], strict=True):
            setattr(self, name, unet3d.Level(norm, given, made, made))
        self.up_tr256 = unet3d.Rising(norm, FEATURES, 16)
        self.up_tr128 = unet3d.Rising(norm, 16, 8)
        self.up_tr64 = unet3d.Rising(norm, 8, 4)
        self.out_tr = unet3d.Output(4)


@pytest.fixture
def narrow(monkeypatch):
    """Models Genesis with it."""
    monkeypatch.setattr(models_genesis, "UNet3D", Narrow)
