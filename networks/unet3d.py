"""3-D UNet (Cicek et al. 2016), with same-padding. 19 million parameters at its standard width."""

import torch
from torch import nn

from networks.padding import crop_to, pad_to_multiple

LEVELS = 3  # down-samplings; the input is padded to a multiple of 2^3


class UNet3d(nn.Module):
    """Analysis path w, 2w, 4w, bridge 8w, max-pooling; transposed convolutions and skips on the way up.

    A level's first convolution keeps half of its channels, as in the paper (32, 64 | 64, 128 | 128, 256 | 256, 512), so that
    they double before each pooling. Differs from it in that convolutions pad: the output has the input's size.

    Args:
        in_channels: number of modalities.
        classes: number of classes K.
        width: channels at full resolution; 64 in the paper.
    """

    dims = 3

    def __init__(self, in_channels, classes, width=64):
        super().__init__()
        widths = [width * 2 ** level for level in range(LEVELS + 1)]
        self.down = nn.ModuleList(two_convolutions(a, max(1, b // 2), b) for a, b in zip([in_channels, *widths], widths))
        self.pool = nn.MaxPool3d(2)
        self.up = nn.ModuleList(nn.ConvTranspose3d(2 * w, 2 * w, 2, stride=2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(two_convolutions(3 * w, w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv3d(width, classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images):
        """images (B, in_channels, D, H, W) -> logits (B, classes, D, H, W)."""
        x = pad_to_multiple(images, 2 ** LEVELS)
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)                       # (B, w * 2^level, D, H, W each / 2^level)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return crop_to(self.head(x), images.shape[2:])


def two_convolutions(in_channels, middle, out_channels):
    """3x3x3 convolution, batch normalisation, ReLU, to `middle` and then to `out_channels`."""
    layers = []
    for a, b in ((in_channels, middle), (middle, out_channels)):
        layers += [nn.Conv3d(a, b, 3, padding=1, bias=False), nn.BatchNorm3d(b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
