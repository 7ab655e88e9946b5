"""A network with its loss and Adam: the training step, and the logits of images, for main.py and for benchmarks/."""


import torch

from dataloader import Batch, one_hot
from training import nonfinite
from training.devices import choose_memory_format, logits_of
from training.parallel import Group


class Trainer:
    """What a training step needs.

    Args:
        network: images (B, C, *spatial) -> logits (B, K, *spatial); moved to the device.
        loss: a losses.JointLoss.
        device: torch.device.
        amp: autocast dtype, or None for float32 throughout.
        lr, betas: of Adam.
        compiled: torch.compile the network.
        group: the parallel.Group of processes that train together; None: this one alone, whatever torchrun says.
    """

    def __init__(self, network, loss, device, amp=None, lr=1e-3, betas=(0.9, 0.999), compiled=False, group=None):
        self.loss, self.device, self.amp, self.group = loss, device, amp, group or Group(alone=True)
        self.network = network.to(device, memory_format=choose_memory_format(amp, device, network.dims))
        self.forward = self.group.wrap(network)      # for training
        self.segment = network                       # for validation: exchanges nothing
        if compiled:
            self.forward, self.segment = (torch.compile(one, dynamic=False) for one in (self.forward, self.segment))
        self.optimizer = torch.optim.Adam(network.parameters(), lr, betas, fused=True)
        self.buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]

    def step(self, batch, weights, slices=None):
        """One step on a dataloader.Batch; weights = (alpha, 1 - alpha). Waits for nothing on a GPU.

        Args:
            batch: what this process has of the global batch, which may be nothing.
            slices: of the global batch (default: those of `batch`).

        Returns:
            (bad, values): bool (), True where loss or gradient was not finite and the step was left out; the loss and its
            terms by name, each a scalar on the device.
        """
        before = [buffer.clone() for buffer in self.buffers]
        share = self.group.deal(slices or len(batch.images), batch)
        if not share:
            batch = Batch(*(tensor.new_zeros(1, *tensor.shape[1:]) for tensor in batch))
        logits = logits_of(self.forward, batch.images, self.amp).float()                                 # (B, K, *spatial)
        probs, target = logits.softmax(1), one_hot(batch.labels, logits.shape[1])
        loss, terms = self.loss(probs, target, batch.distance, weights, logits)
        self.optimizer.zero_grad(set_to_none=True)
        (loss if share == 1 else share * loss).backward()
        bad = self.group.any(nonfinite.is_bad(loss, self.network.parameters()))
        nonfinite.step_unless(bad, self.optimizer, self.buffers, before)
        return bad, {"loss": loss.detach(), **terms}
