"""Batch normalisation over processes: as of one process with all slices. Threads stand for them.

The kernels of torch's nn.SyncBatchNorm run on GPUs alone; here their arithmetic stands for them.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from pretended_cuda import pretended_cuda
from training import batch_norm
from training.batch_norm import CpuBatchNorm, GpuBatchNorm, synchronise
from training.parallel import Group

EPS = 1e-5


# torch's kernels ----------------------------------------------------------------------------------

def axes_of(x):
    return [0, *range(2, x.ndim)]


def along(values, x):
    return values.view(1, -1, *[1] * (x.ndim - 2))


def stats(x, eps):
    variance, mean = torch.var_mean(x.float(), axes_of(x), correction=0)
    return mean, (variance + eps).rsqrt()


def gather(x, means, inverses, running_mean, running_var, momentum, eps, counts):
    total = counts.sum()
    mean = (means * counts[:, None]).sum(0) / total
    squares = ((1 / inverses.square() - eps + (means - mean).square()) * counts[:, None]).sum(0)
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(squares / (total - 1), momentum)
    return mean, (squares / total + eps).rsqrt()


def elementwise(x, weight, bias, mean, inverse, eps):
    normal = (x.float() - along(mean, x)) * along(inverse * weight, x) + along(bias, x)
    return normal.to(x.dtype)


def backward_reduce(gradient, x, mean, inverse, weight, *_):
    gradient, centred = gradient.float(), x.float() - along(mean, x)
    first, second = gradient.sum(axes_of(x)), (gradient * centred).sum(axes_of(x))
    return first, second, second * inverse, first


def backward_elementwise(gradient, x, mean, inverse, weight, first, second, counts):
    total, centred = counts.sum(), x.float() - along(mean, x)
    rest = along(first / total, x) + centred * along(second / total * inverse.square(), x)
    return ((gradient.float() - rest) * along(inverse * weight, x)).to(x.dtype)


@pytest.fixture
def kernels(monkeypatch):
    for name, function in {
        "batch_norm_stats": stats, "batch_norm_gather_stats_with_counts": gather,
        "batch_norm_elemt": elementwise, "batch_norm_backward_reduce": backward_reduce,
        "batch_norm_backward_elemt": backward_elementwise,
    }.items():
        monkeypatch.setattr(torch, name, function)


# Threads as processes -----------------------------------------------------------------------------

class Thread(Group):
    """A Group whose processes are threads."""

    def __init__(self, rank, world, shared, barrier):
        super().__init__(alone=True)
        self.rank, self.world, self.shared, self.barrier = rank, world, shared, barrier

    def sum(self, tensor):
        self.shared[self.rank] = tensor.clone()
        self.barrier.wait(20)
        total = sum(self.shared[rank] for rank in range(self.world))
        self.barrier.wait(20)
        return tensor.copy_(total)


def network_of(dims):
    torch.manual_seed(0)
    convolution, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
    return nn.Sequential(convolution(2, 3, 3, padding=1), norm(3), nn.ReLU(),
                         convolution(3, 4, 1), norm(4))


def loss_of(output, wanted):
    """A mean over slices."""
    return ((output - wanted) ** 2).flatten(1).mean(1).mean()


def train_alone(images, wanted, steps):
    """(network, gradients of each step) of one process with the whole batch."""
    network, gradients = network_of(images[0].ndim - 2), []
    for batch, goal in zip(images, wanted, strict=True):
        network.zero_grad()
        loss_of(network(batch), goal).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    return network, gradients


def train_together(images, wanted, world, kind, monkeypatch):
    """The same of several, whose gradients are averaged: the networks, and the gradients' means."""
    monkeypatch.setattr(batch_norm, "CpuBatchNorm", kind)
    shared, barrier = {}, threading.Barrier(world)
    networks = [network_of(images[0].ndim - 2) for _ in range(world)]

    def train(rank):
        group, gradients, network = Thread(rank, world, shared, barrier), [], networks[rank]
        synchronise(network, group)
        for batch, goal in zip(images, wanted, strict=True):
            mine, theirs = batch[rank::world], goal[rank::world]
            weight = group.take_share(len(batch), type("Batch", (), {"images": mine}))
            if not weight:  # as Trainer.begin_step does
                mine, theirs = torch.zeros_like(batch[:1]), torch.zeros_like(goal[:1])
            network.zero_grad()
            (weight * loss_of(network(mine), theirs)).backward()
            gradients.append([group.sum(parameter.grad.clone()) / world
                              for parameter in network.parameters()])
        return gradients

    with ThreadPoolExecutor(world) as pool:
        return networks, list(pool.map(train, range(world)))[0]


@pytest.mark.parametrize("kind", [CpuBatchNorm, GpuBatchNorm])
@pytest.mark.parametrize("dims, layout", [
    (2, torch.contiguous_format), (2, torch.channels_last), (3, torch.channels_last_3d)])
def test_processes_normalise_as_one_with_all_slices(kernels, monkeypatch, kind, dims, layout):
    generator = torch.Generator().manual_seed(1)
    shape = (4, 6, 5)[:dims]
    counts = (5, 1)  # three processes: 2, 2 and 1 slices; then 1, none and none
    images, wanted = ([(3 * torch.randn(count, channels, *shape, generator=generator) + 1)
                       .contiguous(memory_format=layout) for count in counts]
                      for channels in (2, 4))

    alone, gradients = train_alone(images, wanted, len(counts))
    together, means = train_together(images, wanted, 3, kind, monkeypatch)
    for network in together:
        assert isinstance(network[1], kind)
        for (name, buffer), other in zip(alone.named_buffers(), network.buffers(), strict=True):
            torch.testing.assert_close(other, buffer, msg=name)
    for step, (expected, found) in enumerate(zip(gradients, means, strict=True)):
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5, msg=f"step {step}")


def test_statistics_of_two_processes_worked_out_by_hand(kernels, monkeypatch):
    """Slices of 1, 3 and 8: mean 4, variance (9 + 1 + 16) / 3, unbiased 13."""
    monkeypatch.setattr(batch_norm, "CpuBatchNorm", GpuBatchNorm)
    shared, barrier = {}, threading.Barrier(2)

    def normalise(rank):
        norm = nn.Sequential(nn.BatchNorm2d(1))
        group = Thread(rank, 2, shared, barrier)
        synchronise(norm, group)
        values = torch.tensor([1.0, 3.0, 8.0])[rank::2].view(-1, 1, 1, 1)
        return norm(values).flatten().tolist(), norm[0]

    with ThreadPoolExecutor(2) as pool:
        (first, norm), (second, _) = pool.map(normalise, range(2))
    deviation = (26 / 3) ** 0.5
    assert first == pytest.approx([-3 / deviation, 4 / deviation], rel=1e-4)
    assert second == pytest.approx([-1 / deviation], rel=1e-4)
    assert norm.running_mean.item() == pytest.approx(0.4)
    assert norm.running_var.item() == pytest.approx(0.9 + 1.3)


def test_evaluation_is_that_of_plain_batch_normalisation(kernels):
    images = torch.randn(2, 3, 4, 4)
    for kind in (CpuBatchNorm, GpuBatchNorm):
        plain, own = nn.BatchNorm2d(3).eval(), kind(3).eval()
        assert torch.equal(own(images), plain(images))


# On the pretended device --------------------------------------------------------------------------

def one_launch_each(monkeypatch):
    """Kernels that compute nothing and count as one launch."""
    def of(x, *shapes):
        made = [x.new_empty(shape, dtype=torch.float32) for shape in shapes]
        made[0].zero_()
        return made[0] if len(made) == 1 else tuple(made)

    def like(x):
        return torch.empty_like(x).zero_()

    channels = lambda x: x.shape[1:2]  # noqa: E731
    for name, function in {
        "stats": lambda x, *_: of(x, *[channels(x)] * 2),
        "gather_stats_with_counts": lambda x, *_: of(x, *[channels(x)] * 2),
        "elemt": lambda x, *_: like(x),
        "backward_reduce": lambda gradient, x, *_: of(x, *[channels(x)] * 4),
        "backward_elemt": lambda gradient, x, *_: like(x),
    }.items():
        monkeypatch.setattr(torch, f"batch_norm_{name}", function)


def test_a_step_of_several_gpus_never_waits_and_launches_little_more_than_one_of_one(monkeypatch):
    from benchmarks.training import Step
    one_launch_each(monkeypatch)
    launches = {}
    for world in (1, 2):
        group = Group(alone=True)
        group.sum = lambda tensor: tensor.add_(0)  # one launch
        group.any = lambda flag: flag
        with pretended_cuda(hollow=True) as cuda:
            step = Step("unet", 64, 256, 8, "cuda", torch.bfloat16)
            if world > 1:
                group.world = step.group.world = world
                step.group = group
                synchronise(step.network, group)
            for _ in range(2):
                cuda.launches.clear()
                cuda.waits.clear()
                step()
            launches[world] = len(cuda.launches)
            assert cuda.waits == []
            kinds = {type(module) for module in step.network.modules()}
    assert GpuBatchNorm in kinds and not kinds & {CpuBatchNorm, nn.BatchNorm2d}
    assert launches[2] - launches[1] <= 12 * 18, launches  # it has 18 layers
