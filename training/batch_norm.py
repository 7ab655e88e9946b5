"""Batch normalisation over the slices of all processes that train together.

On a GPU by the kernels of torch's own nn.SyncBatchNorm, on a CPU, which has none of them, by
arithmetic. nn.SyncBatchNorm itself is not used: in each layer it leaves out processes without
pixels by a mask, for which the host waits for the GPU three times a layer, and it takes the dummy
image of a process without a slice for data.
"""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise(network, group):
    """Replace every batch normalisation of a network by one over all processes of the group.

    The names of its tensors and the tensors stay the same.
    """
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
                kind = GpuBatchNorm if child.weight.is_cuda else CpuBatchNorm
                other = kind(child.num_features, child.eps, child.momentum)
                other.weight, other.bias, other.group = child.weight, child.bias, group
                for buffer in buffers:
                    setattr(other, buffer, getattr(child, buffer))
                setattr(module, name, other)


def by_running_statistics(norm, input):
    """What a batch normalisation gives outside of training, where processes exchange nothing."""
    return functional.batch_norm(input, norm.running_mean, norm.running_var, norm.weight, norm.bias,
                                 eps=norm.eps)


# On a CPU -----------------------------------------------------------------------------------------

class Sum(torch.autograd.Function):
    """Sum over the processes, with a gradient: the sum in each depends on the values of all."""

    @staticmethod
    def forward(ctx, values, group):
        ctx.group = group
        return group.sum(values.clone())

    @staticmethod
    def backward(ctx, gradient):
        return ctx.group.sum(gradient.clone(memory_format=torch.contiguous_format)), None


class CpuBatchNorm(_BatchNorm):
    """Batch normalisation over the global batch, in float32."""

    group = None

    def _check_input_dim(self, input):
        pass

    def forward(self, input):
        if not self.training:
            return by_running_statistics(self, input)

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
        return Sum.apply(values if self.group.present else values * 0, self.group)


# On a GPU -----------------------------------------------------------------------------------------

class GpuBatchNorm(nn.SyncBatchNorm):
    """The same in a dozen kernels, forward and backward; nothing waits for the GPU."""

    group = None

    def forward(self, input):
        if not self.training:
            return by_running_statistics(self, input)
        self.num_batches_tracked += 1
        return NormaliseTogether.apply(input, self.weight, self.bias, self)


class NormaliseTogether(torch.autograd.Function):
    """Normalise x (B, C, *spatial) of any floating-point type by the statistics of all processes.

    A process without a slice of its own takes part with a count of 0, and its image, a dummy, gets
    no gradient.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, norm):
        group = ctx.group = norm.group
        x = x.contiguous(memory_format=layout_of(x))
        mean, inverse = torch.batch_norm_stats(x, norm.eps)                 # (C,) float32 each
        count = torch.full_like(mean[:1], x.numel() // len(mean))

        # Gathered as a sum, in which every process has a row. The first one always has a slice.
        rows = mean.new_zeros(group.world, 2 * len(mean) + 1)
        if group.present:
            torch.cat([mean, inverse, count], out=rows[group.rank])
        else:
            rows[group.rank, len(mean):-1] = 1  # its standard deviation is divided by
        means, inverses, counts = group.sum(rows).split([len(mean), len(mean), 1], dim=1)

        counts = counts.flatten()
        mean, inverse = torch.batch_norm_gather_stats_with_counts(
            x, means, inverses, norm.running_mean, norm.running_var, norm.momentum, norm.eps,
            counts)
        ctx.save_for_backward(x, weight, mean, inverse, counts.to(torch.int32))
        return torch.batch_norm_elemt(x, weight, bias, mean, inverse, norm.eps)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, mean, inverse, counts = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=layout_of(x))
        *sums, of_weight, of_bias = torch.batch_norm_backward_reduce(
            gradient, x, mean, inverse, weight, True, True, True)

        first, second = ctx.group.sum(torch.stack(sums)).unbind()           # (C,) each
        if not ctx.group.present:
            return torch.zeros_like(x), of_weight, of_bias, None
        of_x = torch.batch_norm_backward_elemt(
            gradient, x, mean, inverse, weight, first, second, counts)
        return of_x, of_weight, of_bias, None


def layout_of(x):
    """The memory format of a batch: channels last, in which the kernels are fast too, or torch's.

    An image of one channel or pixel is in both.
    """
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return last if x.is_contiguous(memory_format=last) else torch.contiguous_format
