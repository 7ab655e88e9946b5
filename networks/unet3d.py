"""3-D UNet (Cicek et al. 2016), with same-padding. 19 million parameters at its standard width."""

from torch import nn

from networks.pooling import MaxPool3d
from networks.ushape import UShape

LEVELS = 3  # down-samplings


class UNet3d(UShape):
    """Analysis path w, 2w, 4w, bridge 8w, max-pooling; transposed convolutions and skips up.

    A level's first convolution has half of its channels, as in the paper (32, 64 | 64, 128 |
    128, 256 | 256, 512), so that they double before each pooling.

    Differs from the paper and its code in this:
    - Convolutions pad, so the output has the input's size; there 132x132x116 voxels give 44x44x28.
    - Convolutions before batch normalisation, which would undo it, have no bias; with one in each,
      weights and biases are the paper's 19,069,955.
    - New scans are normalised by the statistics gathered in training; there by their own.

    Args:
        in_channels: number of modalities.
        classes: number of classes K.
        width: channels w at full resolution; 64 in the paper.
    """

    dims = 3

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2 ** level for level in range(LEVELS + 1)]
        ascending = widths[-2::-1]  # of the levels on the way up

        self.down = nn.ModuleList(
            two_convolutions(a, max(1, b // 2), b) for a, b in zip([in_channels, *widths], widths))
        self.pool = MaxPool3d()
        self.up = nn.ModuleList(nn.ConvTranspose3d(2 * w, 2 * w, 2, stride=2) for w in ascending)
        self.merge = nn.ModuleList(two_convolutions(3 * w, w, w) for w in ascending)
        self.head = nn.Conv3d(width, classes, 1)

        self.start_weights()


def two_convolutions(in_channels: int, middle: int, out_channels: int) -> nn.Sequential:
    """3x3x3 convolution, batch normalisation, ReLU, to `middle` and then to `out_channels`."""
    layers = []
    for a, b in ((in_channels, middle), (middle, out_channels)):
        layers += [
            nn.Conv3d(a, b, 3, padding=1, bias=False),
            nn.BatchNorm3d(b),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
