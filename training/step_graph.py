"""A training step as one CUDA graph: recorded once, then a single launch for all its operations.

What of it can be had without a device is tested everywhere: which steps are recorded, that every
batch reaches the memory that was recorded, and that the results are those of the steps themselves.
"""

import torch

from utils import log

WARM_UP = 3  # steps before it is recorded, in which torch and cuDNN settle what they allocate


def can_record(asked, device, group, amp=None):
    """Are steps recorded on this device? Where that was asked for in vain, a line says so.

    Not in float16, whose scale another step may change.
    """
    possible = device.type == "cuda" and group.world == 1 and amp != torch.float16
    if asked and not possible:
        where = ("on a CPU" if device.type == "cpu" else
                 "with several processes" if group.world > 1 else "in float16")
        log(f"--cuda-graph: without effect {where}")
    return asked and possible


class StepGraph:
    """Takes steps by their record.

    The first batch says which shape is recorded. Batches of another shape, such as the last one of
    an epoch, are computed as they are. The first steps are too, on a stream of their own, which a
    recording asks for.
    """

    def __init__(self, device):
        self.device, self.batch, self.taken, self.replay = device, None, 0, None

    def __call__(self, step, batch):
        """step(batch), or its record on this batch.

        Args:
            step: function of a Batch; a step of training, which returns tensors on the device in
                tuples and dicts. All that it reads and changes must keep its place in memory.
            batch: a Batch on the device.

        Returns:
            what the step returns. The tensors of a record are overwritten by the next.
        """
        if self.batch is None:
            self.batch = batch._make(map(torch.clone, batch))
        if [tensor.shape for tensor in batch] != [tensor.shape for tensor in self.batch]:
            return step(batch)

        for place, values in zip(self.batch, batch, strict=True):
            place.copy_(values)
        self.taken += 1
        if self.taken <= WARM_UP:
            return apart(lambda: step(self.batch), self.device)
        if self.replay is None:
            self.replay = record(lambda: step(self.batch))
        return self.replay()


def apart(step, device):
    """step(), on another stream than the current one."""
    current, other = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    other.wait_stream(current)
    with torch.cuda.stream(other):
        results = step()
    current.wait_stream(other)
    return results


def record(step):
    """A function that takes a step again, on the same memory, and returns the same tensors."""
    graph = torch.cuda.CUDAGraph()
    # The thread that writes checkpoints may go on meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        results = step()

    def replay():
        graph.replay()
        return results

    return replay
