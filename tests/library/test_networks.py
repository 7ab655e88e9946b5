"""The networks: number of parameters by formula, structure by layer, any input size, registry."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from networks import NETWORKS, build
from networks.padding import crop_to, pad_to_multiple

NAMES = ["unet", "unet2018", "resunet", "enet"]  # of slices; unet3d is in test_networks_other.py
MULTIPLE = {"unet": 16, "unet2018": 8, "resunet": 16, "enet": 8}


def on_meta(name, *arguments):
    """A network without memory for its weights: only shapes."""
    with torch.device("meta"):
        return build(name, *arguments)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def small(name, in_channels=2, classes=2, width=4):
    """A narrow network in evaluation mode, from a fixed seed."""
    torch.manual_seed(0)
    return build(name, in_channels, classes, width).eval()


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# Size ---------------------------------------------------------------------------------------------

def unet_parameters(channels, classes, w):
    """Pairs of 3x3 convolutions without bias, each with scale and shift per channel.

    2x2 up-convolutions, and a 1x1 head.
    """
    def pair(a, b):
        return 9 * a * b + 9 * b * b + 2 * 2 * b

    levels = [w, 2 * w, 4 * w, 8 * w, 16 * w]
    down = sum(pair(a, b) for a, b in zip([channels, *levels], levels))
    up = sum(4 * 2 * b * b + b + pair(2 * b, b) for b in levels[:-1])
    return down + up + w * classes + classes


def unet2018_parameters(channels, classes, w):
    """3x3 convolutions without bias, each with scale, shift and one slope.

    But for the residual's second one.
    """
    def conv(a, b):
        return 9 * a * b + 2 * b + 1

    encoder = (conv(channels, w) + conv(w, w) + conv(w, 2 * w) + conv(2 * w, 2 * w)
               + conv(2 * w, 4 * w) + conv(4 * w, 4 * w))
    second = 9 * 64 * w * w + 8 * w + 2 * 8 * w  # a bias, no slope
    bridge = conv(4 * w, 8 * w) + conv(8 * w, 8 * w) + second + conv(8 * w, 8 * w)
    decoder = sum(2 * conv(c, c) + conv(c + c // 2, c // 2) + conv(c // 2, c // 2)
                  for c in (8 * w, 4 * w, 2 * w))
    return encoder + bridge + decoder + w * classes + classes


@pytest.mark.parametrize("name, count", [("unet", 31_037_122), ("unet2018", 18_703_127)])
def test_parameters_for_two_modalities_and_two_classes(name, count):
    assert parameters(on_meta(name, 2, 2)) == count


@pytest.mark.parametrize("channels, classes, width", [
    (2, 2, 64), (5, 2, 64), (1, 3, 16), (3, 5, 7)])
@pytest.mark.parametrize("name, formula", [
    ("unet", unet_parameters), ("unet2018", unet2018_parameters)])
def test_parameters_follow_the_formula(name, formula, channels, classes, width):
    assert parameters(on_meta(name, channels, classes, width)) == formula(channels, classes, width)


def test_unet2018_takes_631_gflop_per_slice_and_step():
    network = on_meta("unet2018", 2, 2)
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 2, 256, 256, device="meta")).sum().backward()
    assert counter.get_total_flops() / 1e9 == pytest.approx(630.9, abs=0.05)


# Structure ----------------------------------------------------------------------------------------

def convolutions(name, channels, classes, width):
    """(kind, in, out, kernel, stride, bias, output height) of every convolution as it runs."""
    network, seen = on_meta(name, channels, classes, width), []

    def note(m, _, out):
        kind = "up" if isinstance(m, nn.ConvTranspose2d) else "conv"
        seen.append((kind, m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0],
                     m.bias is not None, out.shape[2]))

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(note)
    network(torch.empty(1, channels, 64, 64, device="meta"))
    return seen


def test_unet_layer_by_layer():
    def pair(a, b, size):
        return [("conv", a, b, 3, 1, False, size), ("conv", b, b, 3, 1, False, size)]

    assert convolutions("unet", 2, 3, 64) == [
        *pair(2, 64, 64),
        *pair(64, 128, 32), *pair(128, 256, 16), *pair(256, 512, 8), *pair(512, 1024, 4),
        ("up", 1024, 512, 2, 2, True, 8), *pair(1024, 512, 8),
        ("up", 512, 256, 2, 2, True, 16), *pair(512, 256, 16),
        ("up", 256, 128, 2, 2, True, 32), *pair(256, 128, 32),
        ("up", 128, 64, 2, 2, True, 64), *pair(128, 64, 64),
        ("conv", 64, 3, 1, 1, True, 64)]


def test_unet2018_layer_by_layer():
    def plain(a, b, size, stride=1, bias=False):
        return ("conv", a, b, 3, stride, bias, size)

    assert convolutions("unet2018", 2, 3, 64) == [
        plain(2, 64, 64), plain(64, 64, 64),
        plain(64, 128, 32, stride=2), plain(128, 128, 32),
        plain(128, 256, 16, stride=2), plain(256, 256, 16),
        plain(256, 512, 8, stride=2), plain(512, 512, 8),
        plain(512, 512, 8, bias=True), plain(512, 512, 8),
        plain(512, 512, 16), plain(512, 512, 16), plain(768, 256, 16), plain(256, 256, 16),
        plain(256, 256, 32), plain(256, 256, 32), plain(384, 128, 32), plain(128, 128, 32),
        plain(128, 128, 64), plain(128, 128, 64), plain(192, 64, 64), plain(64, 64, 64),
        ("conv", 64, 3, 1, 1, True, 64)]


def of_type(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


def test_unet2018_upsamples_to_the_nearest_neighbour_three_times():
    upsamplings = of_type(small("unet2018"), nn.Upsample)
    assert [(up.mode, up.scale_factor) for up in upsamplings] == [("nearest", 2.0)] * 3


def test_unet2018_has_one_prelu_slope_after_each_convolution_but_two():
    network = small("unet2018")  # not after the residual's second convolution, nor after the head
    slopes = [prelu.num_parameters for prelu in of_type(network, nn.PReLU)]
    assert slopes == [1] * (len(of_type(network, nn.Conv2d)) - 2)


def test_unet2018_normalises_after_each_convolution_but_the_head():
    network = small("unet2018")
    assert len(of_type(network, nn.BatchNorm2d)) == len(of_type(network, nn.Conv2d)) - 1


def test_unet2018_bridge_adds_and_applies_a_leaky_relu_of_02():
    residual = small("unet2018").bridge[1]
    for parameter in residual.second.parameters():
        nn.init.zeros_(parameter)  # the branch gives 0, so the block is its activation
    x = torch.linspace(-2, 2, 32).reshape(1, 32, 1, 1)
    torch.testing.assert_close(residual(x), torch.where(x < 0, 0.2 * x, x))


def test_unet_pools_by_the_maximum_of_2_by_2():
    pool = small("unet").pool
    assert pool(torch.tensor([[[[1.0, 2.0], [4.0, 3.0]]]])).item() == 4


def test_unet_has_a_relu_and_a_normalisation_after_each_3x3_convolution():
    network = small("unet")
    assert (len(of_type(network, nn.ReLU)), len(of_type(network, nn.BatchNorm2d))) == (18, 18)


def test_unet_convolutions_start_with_the_variance_of_he_et_al():
    network = small("unet", width=32)
    ratios = [conv.weight.var().item() * conv.in_channels * 9 / 2
              for conv in of_type(network, nn.Conv2d)[1:-1]]
    assert ratios == pytest.approx([1] * len(ratios), rel=0.05)


def outputs_and_inputs(network, outputs_of, inputs_of):
    """What these modules give and those receive in one forward pass, in the modules' order."""
    given, received = {}, {}
    for module in outputs_of:
        module.register_forward_hook(lambda m, _, out: given.update({m: out}))
    for module in inputs_of:
        module.register_forward_hook(lambda m, inputs, _: received.update({m: inputs[0]}))
    network(noise(1, 2, 32, 32))
    return [given[module] for module in outputs_of], [received[module] for module in inputs_of]


def test_unet_decoder_receives_the_encoders_output_of_each_level():
    network = small("unet")
    skips, merged = outputs_and_inputs(network, network.down[:-1], network.merge)
    for skip, both in zip(reversed(skips), merged):
        assert torch.equal(both[:, :skip.shape[1]], skip)


def test_unet2018_decoder_receives_the_encoders_output_of_each_level():
    network = small("unet2018")
    skips, merged = outputs_and_inputs(network, network.encoder, network.merge)
    for skip, both in zip(reversed(skips), merged):
        assert torch.equal(both[:, -skip.shape[1]:], skip)


@pytest.mark.parametrize("name, deeper", [("unet", "up"), ("unet2018", "widen")])
def test_decoder_receives_the_upsampled_deeper_level(name, deeper):
    network = small(name)
    deep, merged = outputs_and_inputs(network, getattr(network, deeper), network.merge)
    for below, both in zip(deep, merged):
        part = both[:, -below.shape[1]:] if name == "unet" else both[:, :below.shape[1]]
        assert torch.equal(part, below)


# Any size -----------------------------------------------------------------------------------------

SIZES = [(1, 1), (2, 3), (5, 1), (7, 9), (16, 16), (17, 31), (33, 50), (48, 16), (1, 64)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_logits_have_the_images_size(name, size):
    assert small(name)(noise(2, 2, *size)).shape == (2, 2, *size)


@pytest.mark.parametrize("name", NAMES[:2])  # pad_to_multiple is common to all
@torch.no_grad()
def test_every_size_up_to_17_by_31_works(name):
    network = small(name, 1, 2, 1)
    sizes = [(height, width) for height in range(1, 18) for width in range(1, 32)]
    assert [size for size in sizes if network(torch.zeros(1, 1, *size)).shape[2:] != size] == []


@pytest.mark.parametrize("size", [(33, 50), (7, 9), (48, 17)])
@pytest.mark.parametrize("name", NAMES)
def test_odd_size_gives_the_logits_of_the_zero_padded_image(name, size):
    network, image = small(name), noise(1, 2, *size)
    padded = torch.zeros(1, 2, *(-(-side // MULTIPLE[name]) * MULTIPLE[name] for side in size))
    padded[:, :, :size[0], :size[1]] = image
    expected = network(padded)[:, :, :size[0], :size[1]]
    torch.testing.assert_close(network(image), expected, rtol=0, atol=0)


@pytest.mark.parametrize("shape, padded", [
    ((1, 1, 3, 8), (1, 1, 4, 8)), ((2, 3, 4, 4), (2, 3, 4, 4)),
    ((1, 1, 5, 6), (1, 1, 8, 8)), ((1, 2, 3, 4, 9), (1, 2, 4, 4, 12))])
def test_padding_goes_to_the_next_multiple(shape, padded):
    assert pad_to_multiple(torch.ones(shape), 4).shape == padded


def test_padding_is_zeros_at_the_end():
    assert pad_to_multiple(torch.ones(1, 1, 1, 3), 2).tolist() == [[[[1, 1, 1, 0], [0, 0, 0, 0]]]]


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 1, 3, 4, 9)])
def test_crop_undoes_padding(shape):
    image = noise(*shape)
    assert torch.equal(crop_to(pad_to_multiple(image, 8), shape[2:]), image)


# Interface ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("channels, classes", [(1, 2), (5, 2), (2, 4)])
@pytest.mark.parametrize("name", NAMES)
def test_channels_and_classes(name, channels, classes):
    assert small(name, channels, classes)(noise(3, channels, 16, 16)).shape == (3, classes, 16, 16)


@pytest.mark.parametrize("name", NAMES[:3])
def test_width_is_64_unless_given(name):
    assert on_meta(name, 2, 2).head.in_channels == 64


@pytest.mark.parametrize("width", [1, 3, 16])
@pytest.mark.parametrize("name", NAMES[:3])
def test_width_is_the_number_of_channels_at_full_resolution(name, width):
    assert on_meta(name, 2, 2, width).head.in_channels == width


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_not_probabilities(name):
    assert small(name)(noise(1, 2, 16, 16)).min() < 0


def without_gradient(network):
    """Names of the parameters that the last backward pass did not reach."""
    return [key for key, p in network.named_parameters()
            if p.grad is None or not p.grad.abs().max() > 0]


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name):
    # In evaluation mode: in training, batch normalisation cancels the residual's bias. A bottleneck
    # of ENet keeps a quarter of the width, 16.
    network = small(name, width=16 if name == "enet" else 4)
    network(noise(2, 2, 32, 32)).square().sum().backward()
    assert without_gradient(network) == []


@pytest.mark.parametrize("name", NAMES)
def test_images_of_a_batch_do_not_mix_in_evaluation(name):
    # In float64: float32 rounds differently in another batch.
    network, images = small(name).double(), noise(3, 2, 16, 16).double()
    alone = network(images[1:2])
    torch.testing.assert_close(network(images)[1:2], alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_gives_the_same_weights(name):
    first, second = small(name).state_dict(), small(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_other_weights(name):
    first = small(name)
    torch.manual_seed(1)
    assert not torch.equal(first.head.weight, build(name, 2, 2, 4).head.weight)


def test_registry_holds_the_networks_of_slices_and_the_one_of_volumes():
    dims = {name: network.dims for name, network in NETWORKS.items()}
    assert dims == {**dict.fromkeys(NAMES, 2), "unet3d": 3}


@pytest.mark.parametrize("name", ["", "UNet", "nonsense", "unet "])
def test_unknown_network_is_named_in_the_error(name):
    message = f"^network: expected one of unet, unet2018.*found {name!r}$"
    with pytest.raises(ValueError, match=message):
        build(name, 2, 2)


@pytest.mark.parametrize("width", [0, -1])
def test_a_width_below_1_is_refused(width):
    with pytest.raises(ValueError, match=f"^width: expected at least 1, found {width}$"):
        build("unet", 1, 2, width)
