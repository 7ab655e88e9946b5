"""ENet (Paszke et al. 2016), the small fast network.

0.36 million parameters, a hundredth of the operations of `unet`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.padding import crop_to, pad_to_multiple
from networks.pooling import max_unpool2d

MULTIPLE = 8  # the input is halved three times

# The bottlenecks of stages 2 and 3.
KERNELS = (
    "regular", "dilated 2", "asymmetric", "dilated 4",
    "regular", "dilated 8", "asymmetric", "dilated 16",
)


class ENet(nn.Module):
    """The stages of Table 1 there, for w = 64.

    Initial block, w/4 channels at 1/2 of the resolution; stage 1, w at 1/4; stages 2 and 3, 2w at
    1/8; stage 4, w at 1/4; stage 5, w/4 at 1/2; a transposed convolution.

    Spatial dropout of 0.01 in stage 1 and of 0.1 from then on. Up-sampling undoes the max-pooling
    of the same resolution by its indices. What the paper leaves open: a bottleneck's projection has
    a quarter of its output channels; PReLU has one slope per channel; the last convolution is 2x2.

    Differs from the authors' code (ENet-training, for Torch) in this:
    - Stages 4 and 5 have PReLU and spatial dropout as the others do; there they have ReLU and none.
    - Of the asymmetric convolutions 5x1 comes first, and batch normalisation and PReLU follow each;
      there 1x5 comes first, and they follow the second alone.
    - No convolution but the last has a bias, which batch normalisation would undo; there the
      initial one and the last between projection and expansion have. The epsilon of batch
      normalisation is torch's 1e-5; there it is 1e-3.
    - The network is trained as a whole; there the encoder is trained first, by itself.

    Args:
        in_channels: number of modalities.
        classes: number of classes K.
        width: channels w of stage 1, at a quarter of the resolution; 64 in the paper.
    """

    dims = 2

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        w, first = width, max(width // 4, in_channels + 1)

        self.initial = nn.Conv2d(
            in_channels, first - in_channels, 3, stride=2, padding=1, bias=False)
        self.activation = activation(first)

        self.down1 = Downsampling(first, w, 0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(w, dropout=0.01) for _ in range(4)))
        self.down2 = Downsampling(w, 2 * w, 0.1)
        self.stage2 = nn.Sequential(*(Bottleneck(2 * w, kind) for kind in KERNELS))
        self.stage3 = nn.Sequential(*(Bottleneck(2 * w, kind) for kind in KERNELS))

        self.up4 = Upsampling(2 * w, w)
        self.stage4 = nn.Sequential(Bottleneck(w), Bottleneck(w))
        self.up5 = Upsampling(w, first)
        self.stage5 = Bottleneck(first)
        self.head = nn.ConvTranspose2d(first, classes, 2, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, in_channels, H, W) -> logits (B, classes, H, W)."""
        x = pad_to_multiple(images, MULTIPLE)
        x = torch.cat([self.initial(x), functional.max_pool2d(x, 2)], dim=1)
        x = self.activation(x)                                  # (B, w/4, H/2, W/2)

        x, indices1 = self.down1(x)                             # (B, w, H/4, W/4)
        x, indices2 = self.down2(self.stage1(x))                # (B, 2w, H/8, W/8)

        x = self.up4(self.stage3(self.stage2(x)), indices2)     # (B, w, H/4, W/4)
        x = self.up5(self.stage4(x), indices1)                  # (B, w/4, H/2, W/2)
        return crop_to(self.head(self.stage5(x)), images.shape[2:])


class Bottleneck(nn.Module):
    """1x1 projection, the convolution, 1x1 expansion, spatial dropout; added to the input.

    Args:
        channels: of input and output.
        kind: "regular" (3x3), "dilated D" (3x3), or "asymmetric" (5x1, then 1x5).
        dropout: probability that a channel of the branch is dropped.
    """

    def __init__(self, channels: int, kind: str = "regular", dropout: float = 0.1) -> None:
        super().__init__()
        inner = narrow(channels)
        self.branch = nn.Sequential(
            convolution(channels, inner, 1),
            *middle(inner, kind),
            *expansion(inner, channels, dropout))
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x + self.branch(x))


class Downsampling(nn.Module):
    """A bottleneck that begins with a strided 2x2 convolution, beside max-pooling.

    The pooled channels are padded with channels of zeros.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inner = narrow(out_channels)
        self.extra = out_channels - in_channels
        self.branch = nn.Sequential(
            convolution(in_channels, inner, 2, stride=2),
            *middle(inner, "regular"),
            *expansion(inner, out_channels, dropout))
        self.activation = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (features at half the resolution, indices of the maxima)."""
        pooled, indices = functional.max_pool2d(x, 2, return_indices=True)
        pooled = functional.pad(pooled, (0, 0, 0, 0, 0, self.extra))
        return self.activation(self.branch(x) + pooled), indices


class Upsampling(nn.Module):
    """A bottleneck with a strided 3x3 transposed convolution, beside max-unpooling.

    The unpooled values come from a 1x1 convolution and go back where the maxima were.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        inner = narrow(out_channels)
        self.main = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.branch = nn.Sequential(
            convolution(in_channels, inner, 1),
            transposed_convolution(inner),
            *expansion(inner, out_channels, dropout))
        self.activation = nn.PReLU(out_channels)

    def forward(self, x: Tensor, indices: Tensor) -> Tensor:
        return self.activation(max_unpool2d(self.main(x), indices) + self.branch(x))


def narrow(channels: int) -> int:
    """Channels inside a bottleneck."""
    return max(1, channels // 4)


def middle(channels: int, kind: str) -> tuple[nn.Module, ...]:
    """The convolution, or the two, between projection and expansion."""
    kind, _, dilation = kind.partition(" ")
    if kind == "asymmetric":
        return convolution(channels, channels, (5, 1)), convolution(channels, channels, (1, 5))
    return (convolution(channels, channels, 3, dilation=int(dilation or 1)),)


def expansion(in_channels: int, out_channels: int, dropout: float) -> tuple[nn.Module, ...]:
    """1x1 convolution, batch normalisation, spatial dropout."""
    return (
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.Dropout2d(dropout),
    )


def convolution(in_channels: int, out_channels: int, kernel: int | tuple[int, int], stride: int = 1,
                dilation: int = 1) -> nn.Sequential:
    """A convolution without bias, batch normalisation, PReLU.

    It keeps the size, or divides it by the stride.
    """
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    height, width = sides
    padding = (0, 0) if stride == 2 else (dilation * (height // 2), dilation * (width // 2))
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, sides, stride, padding, dilation, bias=False),
        activation(out_channels))


def transposed_convolution(channels: int) -> nn.Sequential:
    """3x3, without bias, to twice the resolution; batch normalisation, PReLU."""
    return nn.Sequential(
        nn.ConvTranspose2d(
            channels, channels, 3, stride=2, padding=1, output_padding=1, bias=False),
        activation(channels))


def activation(channels: int) -> nn.Sequential:
    """Batch normalisation, then PReLU with a slope of its own for each channel."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))
