"""Several processes, started by torchrun, that train one network on shares of every batch.

The slices of a global batch are divided among the processes. Gradients and the statistics of batch
normalisation are those of the whole batch, so the loss follows that of one process with the same
batch size, up to the rounding of float32. In a process alone nothing changes.
"""

import os
import sys
from inspect import signature

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel


class Group:
    """The processes that train together, as torchrun's environment describes them.

    Attributes:
        rank: number of this process, 0 for the one that writes and prints.
        world: number of processes.
        local: number of this process on its machine, and of its CUDA device.
        slices: of the global batch that a step is taken on.
        present: does this process have any of them?
    """

    def __init__(self, alone=False):
        environment = {} if alone else os.environ
        self.rank = int(environment.get("RANK", 0))
        self.world = int(environment.get("WORLD_SIZE", 1))
        self.local = int(environment.get("LOCAL_RANK", 0))
        self.slices, self.present = None, True

    @property
    def first(self):
        return self.rank == 0

    def __enter__(self):
        if self.world > 1:
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
            if not self.first:  # prints nothing until it ends
                sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return self

    def __exit__(self, kind, *_):
        if self.world > 1 and kind is None:  # after an error the others may be gone
            dist.destroy_process_group()

    def device(self, device):
        """This process's own device: with several on CUDA, the one of its number."""
        if self.world > 1 and device.type == "cuda":
            return torch.device("cuda", self.local)
        return device

    def wrap(self, network):
        """The network for training; its batch normalisation is replaced in place."""
        if self.world == 1:
            return network
        synchronise(network, self)

        # Running statistics are the same everywhere already. torch renamed this option in 2.14.
        known = signature(DistributedDataParallel).parameters
        new, old = "forward_sync_buffers", "broadcast_buffers"
        switch = new if new in known else old
        return DistributedDataParallel(network, **{switch: False})

    def take_share(self, slices, batch):
        """Note this process's share of a global batch of `slices`; returns its mean loss's weight.

        The gradient that all share is the mean over the processes, so a mean over n slices weighs
        n * world / slices. A process without a slice takes part with an image of zeros, at weight
        0.
        """
        self.slices, count = slices, len(batch.images)
        self.present = count > 0
        return count * self.world / slices

    def sum(self, tensor):
        """The tensor's sum over the processes, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag):
        """Is it true for any process? A bool, or a bool tensor () on the device."""
        if self.world == 1:
            return flag
        worst = torch.as_tensor(flag).to(torch.uint8)
        dist.all_reduce(worst, dist.ReduceOp.MAX)
        return worst.bool() if isinstance(flag, torch.Tensor) else bool(worst)

    def in_turn(self, do):
        """do() in the first process, and only then in the others."""
        for turn in (True, False):
            if self.first == turn:
                do()
            self.wait()

    def wait(self):
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()

    def share(self, items):
        """This process's part of a list: neighbours, as many as the others have, or one more."""
        count = len(items)
        return items[count * self.rank // self.world:count * (self.rank + 1) // self.world]


class Sum(torch.autograd.Function):
    """Sum over the processes, with a gradient: the sum in each depends on the values of all."""

    @staticmethod
    def forward(ctx, values):
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        return Sum.forward(ctx, gradient.contiguous())


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation over the global batch, on any device; torch's own needs a GPU."""

    group = None

    def _check_input_dim(self, input):
        pass

    def forward(self, input):
        if not self.training:
            return functional.batch_norm(input, self.running_mean, self.running_var, self.weight,
                                         self.bias, eps=self.eps)

        with torch.autocast(input.device.type, enabled=False):
            axes, shape = [0, *range(2, input.ndim)], (1, -1, *[1] * (input.ndim - 2))
            x = input.float()                                               # (B, C, *spatial)

            count = self.group.slices * x[0, 0].numel()
            mean = self.total(x.sum(axes)) / count                          # (C,)
            centred = x - mean.view(shape)
            variance = self.total(centred.square().sum(axes)) / count       # (C,)
            scale = self.weight / (variance + self.eps).sqrt()

            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)

            return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)

    def total(self, values):
        """Sum over the processes; one that has no slice of its own adds nothing."""
        return Sum.apply(values if self.group.present else values * 0)


def synchronise(network, group):
    """Replace every batch normalisation of a network by one over all processes.

    The names of its tensors and the tensors stay the same.
    """
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
                other = SyncBatchNorm(child.num_features, child.eps, child.momentum)
                other.weight, other.bias, other.group = child.weight, child.bias, group
                for buffer in buffers:
                    setattr(other, buffer, getattr(child, buffer))
                setattr(module, name, other)
