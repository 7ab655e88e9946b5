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
from torch.nn.parallel import DistributedDataParallel

from losses_regional import parts_of
from training import gpus
from training.batch_norm import synchronise
from utils import log


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
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpus.count() else "gloo")
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

    def note_own_sums(self, loss, options):
        """Say so if the loss divides by something that each process has of its own images alone.

        Args:
            loss, options: main.py's --loss and --loss-options.
        """
        options = options or {}
        weighed = "weights" in options and parts_of(loss)[0] in ("ce", "wce", "dice+ce")
        if self.world > 1 and (options.get("batch") or weighed):
            log(f"note: {loss} is computed of each process's own images: with {self.world} it is "
                "another loss than with one")

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
