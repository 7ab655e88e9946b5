"""A network with its loss and Adam: what a training step is made of."""

import torch

from training import nonfinite
from training.devices import choose_memory_format, logits_of
from training.parallel import Group


class Trainer:
    """What is trained, on which device and in which precision.

    A step is: `begin_step`, `forward`, a loss of the logits (main.py writes out Eq. 6), `end_step`.
    Nothing in it waits for a GPU.

    Args:
        network: images (B, C, *spatial) -> logits (B, K, *spatial); moved to the device.
        loss: a losses.JointLoss.
        device: torch.device.
        amp: autocast dtype, or None for float32 throughout. With float16 the loss is scaled, and
            the scale lowered after a step whose gradient overflowed.
        lr, betas: of Adam.
        compiled: torch.compile the network.
        group: the parallel.Group of processes that train together; None: this process alone,
            whatever torchrun says.
    """

    def __init__(self, network, loss, device, amp=None, lr=1e-3, betas=(0.9, 0.999),
                 compiled=False, group=None):
        self.loss, self.device, self.amp = loss, device, amp
        self.group = group or Group(alone=True)

        memory_format = choose_memory_format(amp, device, network.dims)
        self.network = network.to(device, memory_format=memory_format)
        self.network_for_training = self.group.wrap(network)
        self.network_for_validation = network  # exchanges nothing between processes
        if compiled:
            self.network_for_training, self.network_for_validation = (
                torch.compile(network, dynamic=False)
                for network in (self.network_for_training, self.network_for_validation))

        self.optimizer = torch.optim.Adam(network.parameters(), lr, betas, fused=True)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == torch.float16)
        self.buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]

    def set_learning_rate(self, lr):
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    # A training step ------------------------------------------------------------------------------

    def begin_step(self, batch, slices=None):
        """Prepare a step on a dataloader.Batch; returns what to compute it on.

        Args:
            batch: what this process has of the global batch. If that is nothing, an image of zeros
                is returned, which lets the process take part without any weight.
            slices: of the global batch (default: those of `batch`).
        """
        self.buffers_before = [buffer.clone() for buffer in self.buffers]
        self.share = self.group.take_share(slices or len(batch.images), batch)
        if self.share:
            return batch
        return batch._make(tensor.new_zeros(1, *tensor.shape[1:]) for tensor in batch)

    def forward(self, images):
        """images (B, C, *spatial) -> logits (B, K, *spatial) float32, for a training step."""
        return logits_of(self.network_for_training, images, self.amp).float()

    def end_step(self, loss):
        """Backward pass and Adam's step; returns bool (), on the device: did the step fail?

        It is left out where the loss or a gradient is not finite. That is a failure unless
        float16's scale, which is lowered then, explains it.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss if self.share == 1 else self.share * loss).backward()
        self.scaler.unscale_(self.optimizer)

        bad = self.group.any(nonfinite.is_bad(loss, self.network.parameters()))
        nonfinite.step_unless(bad, self.optimizer, self.buffers, self.buffers_before)
        if not self.scaler.is_enabled():
            return bad

        failed = self.group.any(nonfinite.is_failure(bad, loss, self.scaler))
        self.scaler.update()
        return failed

    # Validation -----------------------------------------------------------------------------------

    def segment(self, images):
        """images (B, C, *spatial) -> logits (B, K, *spatial) in the autocast dtype."""
        return logits_of(self.network_for_validation, images, self.amp)
