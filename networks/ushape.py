"""What the U-shaped networks share: the way down, the way up with its skips, and how weights start."""

import torch
from torch import nn

from networks.padding import crop_to, pad_to_multiple


class UShape(nn.Module):
    """Blocks on the way down, the last of them the bridge; up-sampling, skip and block on the way up; a 1x1 head.

    A network sets, for n down-samplings: `down`, n + 1 blocks; `pool`, before each of them but the first (the identity where
    blocks stride); `up` and `merge`, n each, the deepest first; `head`.
    """

    def start_weights(self):
        """Convolutions from the normal distribution of He et al. 2015 for ReLU; transposed ones as torch does."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images):
        """images (B, in_channels, *spatial) -> logits (B, classes, *spatial), of any size."""
        x = pad_to_multiple(images, 2 ** len(self.up))
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)                       # (B, channels, each of *spatial / 2^level)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return crop_to(self.head(x), images.shape[2:])
