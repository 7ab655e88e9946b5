"""The registry of networks: one file each, one interface.

A network maps images (B, in_channels, H, W) to logits (B, classes, H, W), for any H and W.
"""

from networks.unet import UNet
from networks.unet2018 import UNet2018

NETWORKS = {"unet": UNet, "unet2018": UNet2018}


def build(name, in_channels, classes, width=64):
    """A network by its command-line name.

    Args:
        name: a key of NETWORKS.
        in_channels: number of modalities.
        classes: number of classes K, background included.
        width: channels at full resolution; the deeper levels are multiples of it.

    Raises:
        ValueError: the name is not known, or the width is below 1.
    """
    if name not in NETWORKS:
        raise ValueError(f"network: expected one of {', '.join(NETWORKS)}, found {name!r}")
    if width < 1:
        raise ValueError(f"width: expected at least 1, found {width}")
    return NETWORKS[name](in_channels, classes, width)
