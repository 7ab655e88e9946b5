"""The network of the authors' 2018 code: a UNet with strided convolutions and a residual bridge.

18,703,127 parameters for 2 modalities, 2 classes, width 64.
"""

import torch
from torch import Tensor, nn

from networks.padding import crop_to, pad_to_multiple

LEVELS = 3  # stride-2 convolutions; the input is padded to a multiple of 2^3


class UNet2018(nn.Module):
    """Encoder w, w | 2w, 2w | 4w, 4w | bridge 8w; decoder with nearest-neighbour up-sampling.

    Args:
        in_channels: number of modalities.
        classes: number of classes K.
        width: channels w at full resolution; 64 in the 2018 code.
    """

    dims = 2

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        w = width
        deep = (8 * w, 4 * w, 2 * w)  # channels below each level of the decoder

        self.encoder = nn.ModuleList([
            nn.Sequential(convolution(in_channels, w), convolution(w, w)),
            nn.Sequential(convolution(w, 2 * w, stride=2), convolution(2 * w, 2 * w)),
            nn.Sequential(convolution(2 * w, 4 * w, stride=2), convolution(4 * w, 4 * w)),
        ])
        self.bridge = nn.Sequential(
            convolution(4 * w, 8 * w, stride=2), Residual(8 * w), convolution(8 * w, 8 * w))
        self.widen = nn.ModuleList(Upsample(c) for c in deep)
        self.merge = nn.ModuleList(
            nn.Sequential(convolution(c + c // 2, c // 2), convolution(c // 2, c // 2))
            for c in deep)
        self.head = nn.Conv2d(w, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, in_channels, H, W) -> logits (B, classes, H, W)."""
        x = pad_to_multiple(images, 2 ** LEVELS)

        skips = []
        for block in self.encoder:
            x = block(x)            # (B, w * 2^level, H / 2^level, W / 2^level)
            skips.append(x)

        x = self.bridge(x)
        for widen, merge in zip(self.widen, self.merge):
            x = merge(torch.cat([widen(x), skips.pop()], dim=1))

        return crop_to(self.head(x), images.shape[2:])


class Upsample(nn.Sequential):
    """Nearest-neighbour x2, then two convolutions that keep the width."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2),
            convolution(channels, channels),
            convolution(channels, channels))


class Residual(nn.Module):
    """conv + BN + PReLU, conv with bias + BN, added to the input, leaky ReLU 0.2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x + self.second(self.first(x)))


def convolution(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution without bias, batch normalisation, PReLU with one slope."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.PReLU())
