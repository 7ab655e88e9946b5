"""Residual UNet: an encoder of residual blocks (He et al. 2016), a decoder of single convolutions.

As in nnU-Net's residual-encoder networks (Isensee et al. 2024) most of the depth lies in the
encoder, and the channels stop growing at 8w; here with batch normalisation and ReLU, and at a size
near that of `unet`.
"""

from torch import Tensor, nn

from networks.ushape import UShape

GROWTH = (1, 2, 4, 8, 8)  # channels of each level, in widths
BLOCKS = (1, 2, 2, 2, 2)  # residual blocks of each level of the encoder


class ResUNet(UShape):
    """Encoder of residual blocks; transposed convolutions and skips on the way up.

    Args:
        in_channels: number of modalities.
        classes: number of classes K.
        width: channels at full resolution.
    """

    dims = 2

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        widths = [width * times for times in GROWTH]
        deep, shallow = widths[:0:-1], widths[-2::-1]  # of each step up

        self.down = nn.ModuleList(
            residual_level(a, b, count, stride=2 if level else 1)
            for level, (a, b, count) in enumerate(zip([in_channels, *widths], widths, BLOCKS)))
        self.pool = nn.Identity()  # the first block of a level strides
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in zip(deep, shallow))
        self.merge = nn.ModuleList(
            nn.Sequential(*convolution(2 * w, w), nn.ReLU(inplace=True)) for w in shallow)
        self.head = nn.Conv2d(width, classes, 1)

        self.start_weights()


def residual_level(in_channels: int, out_channels: int, count: int, stride: int) -> nn.Sequential:
    """`count` residual blocks, the first of which strides and changes the channels."""
    first = Residual(in_channels, out_channels, stride)
    return nn.Sequential(first, *(Residual(out_channels, out_channels) for _ in range(count - 1)))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    The shortcut is the identity, or a 1x1 convolution where channels or resolution change. That
    convolution gets every second pixel and does not stride itself: the same values, but on some
    CPUs the gradient of a strided one, of few channels, writes outside its memory (torch 2.14).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.branch = nn.Sequential(
            *convolution(in_channels, out_channels, stride=stride),
            nn.ReLU(inplace=True),
            *convolution(out_channels, out_channels))

        if in_channels == out_channels and stride == 1:
            self.shortcut: nn.Module = nn.Identity()
        else:
            self.shortcut = nn.Sequential(*convolution(in_channels, out_channels, 1))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.branch(x) + self.shortcut(x[..., ::self.stride, ::self.stride]))


def convolution(in_channels: int, out_channels: int, kernel: int = 3,
                stride: int = 1) -> tuple[nn.Module, ...]:
    """A convolution without bias, and its batch normalisation."""
    return (
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )
