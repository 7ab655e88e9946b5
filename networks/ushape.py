"""What the U-shaped networks share: the way down, the way up with its skips, the first weights."""

import torch
from torch import Tensor, nn

from networks.padding import crop_to, pad_to_multiple


class UShape(nn.Module):
    """Blocks on the way down, the last of them the bridge; up-sampling, skip and block back up.

    A network sets, for n down-samplings:
        down: n + 1 blocks.
        pool: what comes before each of them but the first (the identity where blocks stride).
        up, merge: n modules each, the deepest first.
        head: the last convolution.
    """

    down: nn.ModuleList
    pool: nn.Module
    up: nn.ModuleList
    merge: nn.ModuleList
    head: nn.Module

    def start_weights(self) -> None:
        """Convolutions as He et al. 2015 have it for ReLU; transposed ones as torch does."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """images (B, in_channels, *spatial) -> logits (B, classes, *spatial), of any size."""
        x = pad_to_multiple(images, 2 ** len(self.up))

        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)     # (B, channels, each of *spatial / 2^level)
            skips.append(x)

        skips.pop()  # the bridge's output
        for up, merge in zip(self.up, self.merge):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))

        return crop_to(self.head(x), images.shape[2:])
