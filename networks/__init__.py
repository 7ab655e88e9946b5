"""The registry of networks: one file each, one interface.

A network maps images (B, in_channels, H, W) to logits (B, classes, H, W), for any H and W; one
whose `dims` is 3 maps volumes (B, in_channels, D, H, W) to logits of that size. A single
image in training mode must be larger than 16 pixels: batch normalisation takes no single value.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call

from networks.enet import ENet
from networks.resunet import ResUNet
from networks.unet import UNet
from networks.unet3d import UNet3d
from networks.unet2018 import UNet2018

NETWORKS = {
    "unet": UNet,
    "unet2018": UNet2018,
    "resunet": ResUNet,
    "enet": ENet,
    "unet3d": UNet3d,
}


def build(name: str, in_channels: int, classes: int, width: int = 64) -> nn.Module:
    """A network by its command-line name.

    Args:
        name: a key of NETWORKS.
        in_channels: number of modalities.
        classes: number of classes K, background included.
        width: channels at full resolution; the deeper levels are multiples of it.

    Raises:
        ValueError: the name is unknown, or the width is below 1.
    """
    if name not in NETWORKS:
        raise ValueError(f"network: expected one of {', '.join(NETWORKS)}, found {name!r}")
    if width < 1:
        raise ValueError(f"width: expected at least 1, found {width}")
    return NETWORKS[name](in_channels, classes, width)


def flops(network: nn.Module, shape: Sequence[int]) -> int:
    """Floating-point operations of one image's forward pass.

    Two for each multiply-add of a convolution; other operations are not counted.

    Args:
        network: is left as it is; nothing is computed, and no random number drawn.
        shape: of one image, (in_channels, *spatial).
    """
    from torch.utils.flop_counter import FlopCounterMode  # 0.1 s of import that few programs need

    state = {name: tensor.to("meta") for name, tensor in network.state_dict().items()}
    image = torch.empty(1, *shape, device="meta")

    training = {module: module.training for module in network.modules()}
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(network, state, (image,))
    for module, value in training.items():
        module.training = value

    return counter.get_total_flops()
