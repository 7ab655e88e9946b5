"""Copies of a run's state on the host, from which a thread can write while training changes it."""

import torch


class Snapshot:
    """Takes copies, each into the memory of the one before.

    On CUDA that memory is page-locked: the copies run at the full speed of the bus.

    Args:
        device: where the state is.
    """

    def __init__(self, device):
        self.device, self.places = device, {}

    def take(self, state):
        """The state, nested dicts and lists, with its tensors on the host; waits for the device.

        It is overwritten when the next one is taken.
        """
        copy = self.copy(state, ())
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return copy

    def copy(self, value, where):
        """A copy of a part of the state; `where` are the keys that lead to it."""
        if isinstance(value, torch.Tensor):
            return self.place_for(value, where).copy_(value.detach(), non_blocking=True)
        if isinstance(value, dict):
            return {key: self.copy(entry, (*where, key)) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.copy(entry, (*where, number))
                               for number, entry in enumerate(value))
        return value

    def place_for(self, tensor, where):
        place = self.places.get(where)
        if place is None or (place.shape, place.dtype, place.stride()) != (
                tensor.shape, tensor.dtype, tensor.stride()):
            place = torch.empty_like(tensor, device="cpu", requires_grad=False)
            if self.device.type == "cuda":
                place = place.pin_memory()
            self.places[where] = place
        return place
