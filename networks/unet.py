"""UNet (Ronneberger et al. 2015), with same-padding and batch normalisation."""

from torch import nn

from networks.ushape import UShape

LEVELS = 4  # down-samplings


class UNet(UShape):
    """Encoder w, 2w, 4w, 8w, bridge 16w, max-pooling; transposed convolutions and skips up.

    Differs from the 2015 paper in two points that are common today: convolutions pad, so that the
    output has the input's size, and each is followed by batch normalisation. Weights start as in
    Section 3 there (He et al. 2015).

    Args:
        in_channels: number of modalities.
        classes: number of classes K.
        width: channels w at full resolution; 64 in the paper.
    """

    dims = 2

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2 ** level for level in range(LEVELS + 1)]
        ascending = widths[-2::-1]  # of the levels on the way up

        self.down = nn.ModuleList(
            two_convolutions(a, b) for a, b in zip([in_channels, *widths], widths))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in ascending)
        self.merge = nn.ModuleList(two_convolutions(2 * w, w) for w in ascending)
        self.head = nn.Conv2d(width, classes, 1)

        self.start_weights()


def two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    """Twice: 3x3 convolution, batch normalisation, ReLU."""
    layers = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
