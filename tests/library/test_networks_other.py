"""Residual UNet, ENet and 3-D UNet: sizes, structure, and what every network must do."""

import pytest
import torch
from test_networks import noise, of_type, on_meta, parameters, small, without_gradient
from torch import nn
from torch.nn import functional

from networks import NETWORKS, build, flops
from networks.enet import Bottleneck, Downsampling, Upsampling
from networks.pooling import MaxPool3d, max_unpool2d
from networks.resunet import Residual


def zeroed(module):
    """The module in evaluation mode, every weight of its convolutions 0 and every slope 0.25."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.zeros_(part.weight)
    return module.eval()


# Sizes --------------------------------------------------------------------------------------------

def conv(a, b, kernel=9):
    """A convolution of `kernel` taps without bias, then scale and shift."""
    return kernel * a * b + 2 * b


def resunet_parameters(channels, classes, w):
    def block(a, b, projected):
        return conv(a, b) + conv(b, b) + (conv(a, b, 1) if projected else 0)

    widths = [w, 2 * w, 4 * w, 8 * w, 8 * w]
    down = block(channels, w, True) + sum(
        block(a, b, True) + block(b, b, False) for a, b in zip(widths, widths[1:]))
    up = sum(4 * a * b + b + conv(2 * b, b) for a, b in zip(widths[:0:-1], widths[-2::-1]))
    return down + up + w * classes + classes


def enet_parameters(channels, classes, w):
    """Scale and shift after every convolution but the last; slopes but at a bottleneck's end."""
    def act(a, b, kernel=9):
        return conv(a, b, kernel) + b

    def bottleneck(c, middle):
        n = c // 4
        return act(c, n, 1) + middle(n) + conv(n, c, 1) + c

    def down(a, b):
        return act(a, b // 4, 4) + act(b // 4, b // 4) + conv(b // 4, b, 1) + b

    def up(a, b):
        return conv(a, b, 1) + act(a, b // 4, 1) + act(b // 4, b // 4) + conv(b // 4, b, 1) + b

    def square(n):  # dilated too
        return act(n, n)

    def asymmetric(n):
        return 2 * act(n, n, 5)

    first = w // 4
    section = 6 * bottleneck(2 * w, square) + 2 * bottleneck(2 * w, asymmetric)
    return (
        9 * channels * (first - channels) + 3 * first
        + down(first, w) + 4 * bottleneck(w, square)
        + down(w, 2 * w) + 2 * section
        + up(2 * w, w) + 2 * bottleneck(w, square)
        + up(w, first) + bottleneck(first, square)
        + 4 * first * classes + classes)


def unet3d_parameters(channels, classes, w):
    levels = [w, 2 * w, 4 * w, 8 * w]
    down = sum(conv(a, b // 2, 27) + conv(b // 2, b, 27)
               for a, b in zip([channels, *levels], levels))
    up = sum(8 * (2 * b) ** 2 + 2 * b + conv(3 * b, b, 27) + conv(b, b, 27) for b in levels[:-1])
    return down + up + w * classes + classes


@pytest.mark.parametrize("channels, classes, width", [(2, 2, 64), (1, 4, 32), (3, 12, 64)])
@pytest.mark.parametrize("name, formula", [
    ("resunet", resunet_parameters), ("enet", enet_parameters), ("unet3d", unet3d_parameters)])
def test_parameters_follow_the_formula(name, formula, channels, classes, width):
    assert parameters(on_meta(name, channels, classes, width)) == formula(channels, classes, width)


@pytest.mark.parametrize("name, count", [
    ("resunet", 28_768_578), ("enet", 363_134), ("unet3d", 19_072_258)])
def test_parameters_for_two_modalities_and_two_classes(name, count):
    assert parameters(on_meta(name, 2, 2)) == count


def test_enet_has_the_papers_size():
    assert parameters(on_meta("enet", 3, 19)) / 1e6 == pytest.approx(0.37, abs=0.01)  # its Table 3


def test_unet3d_has_the_papers_19069955_weights_and_biases():
    # For 3 channels and 3 classes, with a bias in each convolution, which batch normalisation makes
    # idle here.
    network = on_meta("unet3d", 3, 3)
    convolutions, transposed = of_type(network, nn.Conv3d), of_type(network, nn.ConvTranspose3d)
    weights = sum(part.weight.numel() for part in convolutions + transposed)
    assert weights + sum(part.out_channels for part in convolutions) == 19_069_955


# FLOPs --------------------------------------------------------------------------------------------

def test_flops_of_one_convolution_by_hand():
    # 3x3, 2 -> 5 channels on 4x6 pixels: 9 * 2 * 5 multiply-adds a pixel
    assert flops(nn.Conv2d(2, 5, 3, padding=1), (2, 4, 6)) == 2 * 9 * 2 * 5 * 24


def test_flops_of_unet_by_hand():
    w, side = 8, 32
    # channels in, out / w, and the side of the image over that of the level
    pairs = [(2, 1, 1), (w, 2, 2), (2 * w, 4, 4), (4 * w, 8, 8), (8 * w, 16, 16)]
    down = sum(9 * (a * b * w + (b * w) ** 2) * (side // s) ** 2 for a, b, s in pairs)
    up = sum((2 + 9 * 3) * (b * w) ** 2 * (side // b) ** 2 for b in (8, 4, 2, 1))
    assert flops(build("unet", 2, 2, w), (2, side, side)) == 2 * (down + up + 2 * w * side ** 2)


def test_flops_leave_the_network_and_the_random_numbers_alone():
    network = build("enet", 2, 2, 16).train()
    frozen = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    frozen.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()

    flops(network, (2, 32, 32))
    assert all(module.training != (module is frozen) for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_enet_takes_a_hundredth_of_unets_operations():
    enet, unet = (flops(on_meta(name, 2, 2), (2, 256, 256)) for name in ("enet", "unet"))
    assert enet / 1e9 == pytest.approx(0.94, abs=0.005) and 90 < unet / enet < 110


# Residual UNet ------------------------------------------------------------------------------------

def test_a_residual_block_without_its_branch_is_the_relu_of_its_input():
    block = zeroed(Residual(3, 3))
    x = noise(2, 3, 5, 5)
    torch.testing.assert_close(block(x), x.clamp(min=0))


def test_a_strided_residual_block_projects_every_other_pixel():
    block = zeroed(Residual(2, 3, stride=2))
    nn.init.ones_(block.shortcut[0].weight)
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    projected = x[:, :, ::2, ::2].sum(1, keepdim=True).expand(1, 3, 2, 2)
    expected = projected / (1 + 1e-5) ** 0.5  # batch normalisation's epsilon
    torch.testing.assert_close(block(x), expected)


def test_resunet_halves_four_times_and_stops_growing_at_8_widths():
    network, shapes = small("resunet", width=4), []
    for level in network.down:
        level.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    network(noise(1, 2, 32, 48))
    assert shapes == [(4, 32, 48), (8, 16, 24), (16, 8, 12), (32, 4, 6), (32, 2, 3)]
    assert [len(level) for level in network.down] == [1, 2, 2, 2, 2]


def test_the_shortcut_of_a_block_that_strides_is_a_strided_1x1_convolution():
    block, x = Residual(2, 3, 2).eval(), torch.randn(1, 2, 6, 8)
    weight = block.shortcut[0].weight
    expected = block.branch(x) + block.shortcut[1](functional.conv2d(x, weight, stride=2))
    assert torch.allclose(block(x), expected.relu(), atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_1x1_convolution_strides(name):
    """Its gradient is wrong on some CPUs, and writes where it must not: see resunet.Residual."""
    assert not [module for module in build(name, 2, 2, 4).modules()
                if isinstance(module, nn.Conv2d | nn.Conv3d)
                and set(module.kernel_size) == {1} and set(module.stride) != {1}]


@pytest.mark.parametrize("name", ["resunet", "unet3d"])
def test_decoder_receives_each_level_and_the_upsampled_deeper_one(name):
    network, skips, deeper, merged = small(name), [], [], []
    for level in network.down[:-1]:
        level.register_forward_hook(lambda _, __, out: skips.append(out))
    for up in network.up:
        up.register_forward_hook(lambda _, __, out: deeper.append(out))
    for merge in network.merge:
        merge.register_forward_hook(lambda _, inputs, __: merged.append(inputs[0]))

    network(images_for(name))
    for skip, below, both in zip(reversed(skips), deeper, merged, strict=True):
        assert torch.equal(both, torch.cat([skip, below], 1))


# ENet ---------------------------------------------------------------------------------------------

def test_enet_stage_by_stage():
    network, seen = small("enet", width=64), []

    def note(stage, out):
        seen.append((stage, tuple((out[0] if isinstance(out, tuple) else out).shape[1:])))

    for name in ("down1", "stage1", "down2", "stage2", "stage3", "up4", "stage4", "up5", "stage5"):
        getattr(network, name).register_forward_hook(lambda _, __, out, name=name: note(name, out))
    logits = network(noise(1, 2, 64, 128))

    assert seen == [  # the paper's Table 1, for 64x128
        ("down1", (64, 16, 32)), ("stage1", (64, 16, 32)),
        ("down2", (128, 8, 16)), ("stage2", (128, 8, 16)), ("stage3", (128, 8, 16)),
        ("up4", (64, 16, 32)), ("stage4", (64, 16, 32)),
        ("up5", (16, 32, 64)), ("stage5", (16, 32, 64))]
    assert logits.shape == (1, 2, 64, 128)


@pytest.mark.parametrize("stage", ["stage2", "stage3"])
def test_enet_convolutions_of_a_section(stage):
    found = [[(part.kernel_size, part.dilation[0]) for part in of_type(block, nn.Conv2d)[1:-1]]
             for block in getattr(small("enet", width=16), stage)]
    asymmetric = [((5, 1), 1), ((1, 5), 1)]
    assert found == [
        [((3, 3), 1)], [((3, 3), 2)], asymmetric, [((3, 3), 4)],
        [((3, 3), 1)], [((3, 3), 8)], asymmetric, [((3, 3), 16)]]


def test_enet_drops_a_hundredth_of_the_channels_in_stage_1_then_a_tenth():
    network = small("enet", width=16)
    rates = {name: {part.p for part in of_type(module, nn.Dropout2d)}
             for name, module in network.named_children()}
    assert rates.pop("down1") == rates.pop("stage1") == {0.01}
    assert all(found in (set(), {0.1}) for found in rates.values())
    assert len(of_type(network, nn.Dropout2d)) == 27


def test_a_bottleneck_without_its_branch_is_the_activation_of_its_input():
    block = zeroed(Bottleneck(8))
    x = noise(2, 8, 5, 5)
    torch.testing.assert_close(block(x), torch.where(x > 0, x, 0.25 * x))


def test_a_downsampling_without_its_branch_is_max_pooling_padded_with_zeros():
    block = zeroed(Downsampling(1, 3, 0.1))
    pooled, indices = block(torch.tensor([[[[1.0, 2.0], [4.0, 3.0]]]]))
    assert pooled.flatten().tolist() == [4, 0, 0] and indices.item() == 2


def test_an_upsampling_puts_values_back_to_where_the_maxima_were():
    block = zeroed(Upsampling(1, 1))
    nn.init.ones_(block.main[0].weight)
    found = block(torch.tensor([[[[5.0]]]]), indices=torch.tensor([[[[2]]]]))
    expected = torch.tensor([[[[0, 0], [5 / (1 + 1e-5) ** 0.5, 0]]]])
    torch.testing.assert_close(found, expected)


def test_enet_dropout_is_random_in_training_and_absent_in_evaluation():
    network, images = small("enet", width=16), noise(2, 2, 32, 32)
    assert torch.equal(network(images), network(images))
    network.train()
    assert not torch.equal(network(images), network(images))


# UNet 3-D -----------------------------------------------------------------------------------------

def test_unet3d_level_by_level():
    network, seen = on_meta("unet3d", 2, 3, 64), []

    def note(m, _, out):
        seen.append((m.in_channels, m.out_channels, tuple(out.shape[2:])))

    for part in of_type(network, nn.Conv3d) + of_type(network, nn.ConvTranspose3d):
        part.register_forward_hook(note)
    network(torch.empty(1, 2, 8, 16, 24, device="meta"))

    full, half, quarter, eighth = (8, 16, 24), (4, 8, 12), (2, 4, 6), (1, 2, 3)
    assert seen == [
        (2, 32, full), (32, 64, full),
        (64, 64, half), (64, 128, half),
        (128, 128, quarter), (128, 256, quarter),
        (256, 256, eighth), (256, 512, eighth),
        (512, 512, quarter), (768, 256, quarter), (256, 256, quarter),
        (256, 256, half), (384, 128, half), (128, 128, half),
        (128, 128, full), (192, 64, full), (64, 64, full),
        (64, 3, full)]


@pytest.mark.parametrize("size", [(1, 1, 1), (3, 9, 17), (8, 16, 8), (5, 8, 12)])
def test_unet3d_logits_have_the_volumes_size(size):
    assert small("unet3d", 1, 3, 2)(noise(1, 1, *size)).shape == (1, 3, *size)


def test_unet3d_of_an_odd_size_gives_the_logits_of_the_zero_padded_volume():
    network, volume = small("unet3d", 1), noise(1, 1, 3, 9, 16)
    padded = torch.zeros(1, 1, 8, 16, 16)
    padded[:, :, :3, :9] = volume
    torch.testing.assert_close(network(volume), network(padded)[:, :, :3, :9], rtol=0, atol=0)


def test_unet3d_gradient_reaches_every_parameter():
    network = small("unet3d", 1, 2, 4)
    network(noise(1, 1, 8, 16, 16)).square().sum().backward()
    assert without_gradient(network) == []


# Pooling ------------------------------------------------------------------------------------------

def few_values(*shape):
    """Numbers of which many are equal, as after a ReLU, with a gradient."""
    return torch.randint(3, shape).float().requires_grad_()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("shape", [(2, 3, 4, 6, 8), (1, 1, 2, 2, 2), (3, 2, 8, 2, 4)])
def test_pooling_in_3d_has_the_values_and_gradients_of_torchs(shape, layout):
    torch.manual_seed(0)
    x, weights = few_values(*shape), torch.rand(*shape[:2], *(side // 2 for side in shape[2:]))
    results = []
    for pool in (MaxPool3d(), torch.nn.MaxPool3d(2)):
        pooled = pool(x.contiguous(memory_format=layout))
        results.append((pooled, *torch.autograd.grad((pooled * weights).sum(), x)))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*results, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_unpooling_has_the_values_and_gradients_of_torchs(layout):
    torch.manual_seed(0)
    images = few_values(2, 3, 6, 8).contiguous(memory_format=layout)
    _, indices = functional.max_pool2d(images, 2, return_indices=True)
    x = torch.rand(2, 3, 3, 4).contiguous(memory_format=layout).requires_grad_()
    weights = torch.rand(2, 3, 6, 8)

    results = []
    for whole in (max_unpool2d(x, indices), functional.max_unpool2d(x, indices, 2)):
        results.append((whole, *torch.autograd.grad((whole * weights).sum(), x)))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*results, strict=True))


# All of them --------------------------------------------------------------------------------------

def images_for(name, batch=2):
    return noise(batch, 2, *((32, 32) if NETWORKS[name].dims == 2 else (8, 16, 16)))


@pytest.mark.parametrize("name", ["resunet", "enet", "unet3d"])
def test_training_steps_under_bfloat16_autocast_lower_the_loss(name, monkeypatch):
    if NETWORKS[name].dims == 3:  # oneDNN's are wrong on some processors: volumes_in_bfloat16.py
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    torch.manual_seed(0)
    network, images = build(name, 2, 2, 4), images_for(name)
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    target, losses = (images[:, :1] > 0).long()[:, 0], []

    for _ in range(6):
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        losses.append(nn.functional.cross_entropy(logits.float(), target))
        optimizer.zero_grad()
        losses[-1].backward()
        assert all(p.grad.isfinite().all() for p in network.parameters())
        optimizer.step()

    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_come_back_from_a_state_dict(name):
    first, images = small(name).train(), images_for(name)
    first(images)  # moves the running statistics
    torch.manual_seed(1)
    second = build(name, 2, 2, 4)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.eval()(images), second.eval()(images))


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_last_gives_the_same_logits(name):
    network, images = small(name), images_for(name)
    layout = torch.channels_last if NETWORKS[name].dims == 2 else torch.channels_last_3d
    expected = network(images)
    found = network.to(memory_format=layout)(images.contiguous(memory_format=layout))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
