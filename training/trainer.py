"""A network with its loss and Adam: what a training step is made of."""

import torch
from torch import nn

from training import nonfinite
from training.devices import choose_memory_format, logits_of
from training.parallel import Group
from training.step_graph import StepGraph


class Trainer:
    """What is trained, on which device and in which precision.

    A step is: `begin_step`, `forward`, a loss of the logits (main.py writes out Eq. 6), `end_step`;
    `step` does all of it. Nothing in it waits for a GPU.

    Args:
        network: images (B, C, *spatial) -> logits (B, K, *spatial); moved to the device.
        loss: a losses.JointLoss; moved to the device.
        device: torch.device.
        amp: autocast dtype, or None for float32 throughout. With float16 the loss is scaled, and
            the scale lowered after a step whose gradient overflowed.
        lr, betas: of Adam.
        compiled: torch.compile what `step` is given, and the network for validation.
        group: the parallel.Group of processes that train together; None: this process alone,
            whatever torchrun says.
        graphed: `step` is recorded as a CUDA graph, see step_graph.py.
    """

    def __init__(self, network, loss, device, amp=None, lr=1e-3, betas=(0.9, 0.999),
                 compiled=False, group=None, graphed=False):
        self.loss, self.device, self.amp = loss.to(device), device, amp
        self.group, self.compiled = group or Group(alone=True), compiled
        self.graph, self.losses_of = StepGraph(device) if graphed else None, {}

        memory_format = choose_memory_format(amp, device, network.dims)
        self.network = network.to(device, memory_format=memory_format)
        self.network_for_training = self.group.wrap(network)
        self.network_for_validation = network  # exchanges nothing between processes
        if compiled:
            self.network_for_validation = torch.compile(network, dynamic=False)

        # Eq. 6's weights, which no epoch changes in a compiled or recorded step; and, for a
        # recorded one, Adam's learning rate.
        self.weights = [torch.ones((), device=device) for _ in range(2)]
        self.lr = torch.ones((), device=device) if graphed else None
        self.optimizer = torch.optim.Adam(network.parameters(), self.lr if graphed else lr, betas,
                                          fused=True, capturable=graphed)

        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == torch.float16)
        self.buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        self.buffers_before = [buffer.clone() for buffer in self.buffers]
        self.counting = [module for module in network.modules()
                         if type(module) in (nn.BatchNorm2d, nn.BatchNorm3d)]
        self.counts = [module.num_batches_tracked for module in self.counting]

    def set_learning_rate(self, lr):
        if self.lr is not None:
            lr = self.lr.fill_(lr)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def set_weights(self, alpha, beta):
        """Eq. 6's weights as float32 scalars on the device, the same tensors in every epoch."""
        return [tensor.fill_(value) for tensor, value in zip(self.weights, (alpha, beta),
                                                             strict=True)]

    # A training step ------------------------------------------------------------------------------

    def step(self, losses_of, batch, slices, *weights):
        """A training step on a dataloader.Batch.

        Args:
            losses_of: function of (this Trainer, a Batch, *weights): the loss, and the parts that
                it is made of, {name: scalar}. It is what --compile compiles.
            batch, slices: see `begin_step`.
            weights: tensors on the device.

        Returns:
            (was it left out: bool (); "loss" and its parts: {name: scalar}), on the device.
        """
        def whole_step(batch):
            loss, parts = self.compiled_once(losses_of)(self, self.begin_step(batch, slices),
                                                        *weights)
            bad = self.end_step(loss)
            return bad, {name: value.detach() for name, value in {"loss": loss, **parts}.items()}

        return self.graph(whole_step, batch) if self.graph else whole_step(batch)

    def compiled_once(self, losses_of):
        if not self.compiled:
            return losses_of
        if losses_of not in self.losses_of:
            self.losses_of[losses_of] = torch.compile(losses_of, dynamic=False)
        return self.losses_of[losses_of]

    def begin_step(self, batch, slices=None):
        """Prepare a step on a dataloader.Batch; returns what to compute it on.

        Args:
            batch: what this process has of the global batch. If that is nothing, an image of zeros
                is returned, which lets the process take part without any weight.
            slices: of the global batch (default: those of `batch`).
        """
        if self.buffers:
            torch._foreach_copy_(self.buffers_before, self.buffers)
        self.show_counts([None] * len(self.counts))

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
        self.show_counts(self.counts)
        if self.counts:
            torch._foreach_add_(self.counts, 1)

        if not self.scaler.is_enabled():
            return bad
        failed = self.group.any(nonfinite.is_failure(bad, loss, self.scaler))
        self.scaler.update()
        return failed

    def show_counts(self, counts):
        """Give each batch normalisation its count of batches, or None.

        torch adds 1 to each by an operation of its own. Hidden from it in a step, they are all
        counted by one; nothing but the checkpoint reads them.
        """
        for module, count in zip(self.counting, counts, strict=True):
            module.num_batches_tracked = count

    # Validation -----------------------------------------------------------------------------------

    def segment(self, images):
        """images (B, C, *spatial) -> logits (B, K, *spatial) in the autocast dtype."""
        return logits_of(self.network_for_validation, images, self.amp)
