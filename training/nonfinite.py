"""Training steps whose loss or gradient is not finite: left out, counted, refused if too many.

Nothing here waits for a CUDA device before the end of an epoch, and a finite step is bit for bit
what it would be without it.
"""

import torch
from torch.nn.utils import get_total_norm

from scans.folder import IGNORED
from utils import UserError

SHARE = 0.1  # of the steps of an epoch may be left out; one always may, all never
ADVICE = "Start another run with a lower --lr or --amp off; what was saved before is intact."


def is_bad(loss, parameters):
    """bool (), on the device: is the loss or any gradient infinite or NaN?"""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    largest = get_total_norm([*gradients, loss.detach()], float("inf"))
    return largest * 0 != 0  # 0 times a finite number is 0, else NaN


def step_unless(bad, optimizer, buffers, before):
    """optimizer.step(), unless `bad`: then weights, moments and buffers stay what they were.

    Args:
        bad: bool (), on the device.
        optimizer: Adam; the fused one never waits for the device.
        buffers: the network's running statistics, which the forward pass has changed already.
        before: copies of them from before it.
    """
    fused = optimizer.defaults["fused"]
    if fused:
        # Where this is 1 the fused Adam does nothing, without the CPU waiting to know.
        optimizer.found_inf = bad.float()
    if fused or not bad:
        optimizer.step()

    if buffers:
        put_back_if(bad, buffers, before)


def put_back_if(bad, buffers, before):
    """Where `bad`, the buffers take the values of `before` again; four operations for all."""
    old, new = (torch.cat([tensor.flatten() for tensor in tensors])
                for tensors in (before, buffers))
    kept = torch.where(bad, old, new).split([buffer.numel() for buffer in buffers])
    torch._foreach_copy_(buffers, [values.view_as(buffer)
                                   for values, buffer in zip(kept, buffers, strict=True)])


def is_failure(bad, loss, scaler):
    """bool (), on the device: is a step that was left out more than float16's scale too high?

    It is where the loss itself is not finite, or the gradient even without scaling.

    Args:
        bad: bool (), see `is_bad`.
        loss: the loss, not scaled.
        scaler: the torch.amp.GradScaler, before its update.
    """
    scale = scaler.scale(torch.ones_like(loss.detach()))
    return bad & (~loss.detach().isfinite() | (scale <= 1))


def left_out(bad_steps, order, batch_size, scans_of):
    """(steps left out, slices left out, the first such step in words); waits for the device once.

    Args:
        bad_steps: bool (steps,) on the device.
        order: row numbers of the epoch, cut into steps of batch_size.
        scans_of: function of row numbers that gives the names of their scans.
    """
    steps = bad_steps.nonzero().flatten().tolist()
    rows = [order[step * batch_size:(step + 1) * batch_size] for step in steps]
    words = ""
    if steps:
        words = f"step {steps[0]} of {len(bad_steps)}, scans {', '.join(scans_of(rows[0]))}"
    return len(steps), sum(map(len, rows)), words


def refuse_many(count, total, where, epoch, words):
    """UserError if too many of an epoch's `total` steps were left out.

    That is more than a tenth of them, and more than one; or all of them.
    """
    if count > max(1, SHARE * total) or count == total:
        raise UserError(
            where, "a finite training loss and gradient",
            f"{count} of {total} steps without one in epoch {epoch}; the first is {words}", ADVICE)


def classes_of(logits):
    """(B, K, H, W) logits -> (B, H, W) uint8 classes; IGNORED where a logit is not finite."""
    return logits.argmax(1).to(torch.uint8).masked_fill(~logits.isfinite().all(1), IGNORED)


def refuse_undefined(masks, where, on, do=ADVICE):
    """UserError if `classes_of` found a logit that was not finite.

    Args:
        masks: uint8, its classes.
        where: what the error is about.
        on: what the network saw, in words.
        do: advice.
    """
    if share := (masks == IGNORED).mean():
        raise UserError(where, f"finite network outputs on {on}",
                        f"other values in {share:.1%} of the pixels", do)
