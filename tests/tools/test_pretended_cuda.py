"""The pretended CUDA device itself: where tensors lie, what it refuses, waits for and counts."""

import copy
import resource

import numpy as np
import pytest
import torch
from torch import nn

from pretended_cuda import DEVICE, pretended_cuda

CPU = torch.device("cpu")


@pytest.fixture
def cuda():
    with pretended_cuda() as device:
        yield device


def on_device(*shape, dtype=torch.float32):
    return torch.ones(*shape, dtype=dtype, device="cuda")


def test_there_is_a_device_only_inside():
    before = torch.Tensor.device, torch.autocast, torch.cuda.is_available()
    with pretended_cuda():
        assert torch.cuda.is_available() and torch.cuda.device_count() == 1
    assert before == (torch.Tensor.device, torch.autocast, torch.cuda.is_available())


def test_tensors_lie_where_they_were_made_or_moved_to(cuda):
    made = [
        torch.zeros(2, device="cuda"),
        torch.zeros(2, device=torch.device("cuda", 0)),
        torch.as_tensor(np.zeros(2), device="cuda"),
        torch.tensor([1, 2], device="cuda"),
        torch.zeros(2).to("cuda"),
        torch.zeros(2).to(DEVICE, torch.float64),
        torch.zeros(2).to(device="cuda", dtype=torch.int8),
        torch.zeros(2).to(on_device(1)),
        torch.zeros(2).cuda(),
        on_device(2).new_zeros(3),
        on_device(2).new_tensor([1.0]),
        torch.zeros_like(on_device(2)),
    ]
    assert {(tensor.device, tensor.is_cuda, tensor.get_device()) for tensor in made} == {
        (DEVICE, True, 0)
    }
    there = on_device(2)
    back = [there.cpu(), there.to("cpu"), torch.zeros_like(there, device="cpu"), torch.zeros(2)]
    assert {tensor.device for tensor in back} == {CPU}


def test_what_shares_memory_or_is_computed_lies_there_too(cuda):
    tensor = on_device(2, 3)
    for other in (
        tensor[0], tensor.T, tensor.detach(), tensor + 1, tensor.float(), tensor.add_(1),
        nn.Parameter(tensor), copy.deepcopy(tensor), tensor * torch.tensor(2.0),
        tensor.contiguous(memory_format=torch.contiguous_format), nn.Dropout1d()(tensor[None]),
    ):
        assert other.device == DEVICE


def test_gradients_and_moments_lie_with_their_parameters(cuda):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.PReLU()).to("cuda")
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    network(on_device(1, 1, 4, 4)).sum().backward()
    optimizer.step()
    state = [value for values in optimizer.state.values() for value in values.values()]
    for tensor in (*network.parameters(), *network.buffers(), *state):
        assert tensor.device == DEVICE
    assert all(parameter.grad.device == DEVICE for parameter in network.parameters())


def test_a_copy_does_not_share_memory(cuda):
    host = torch.zeros(2)
    there = host.to("cuda")
    there += 1
    assert host.tolist() == [0, 0] and there.cpu().tolist() == [1, 1]


# What it refuses ----------------------------------------------------------------------------------

REFUSED = {
    "two devices": (lambda: on_device(2) + torch.ones(2), RuntimeError),
    "two devices in place": (lambda: on_device(2).add_(torch.ones(2)), RuntimeError),
    "two devices in a list": (lambda: torch.cat([on_device(2), torch.ones(2)]), RuntimeError),
    "a network on the host": (lambda: nn.Conv2d(1, 1, 1)(on_device(1, 1, 2, 2)), RuntimeError),
    "numpy": (lambda: on_device(2).numpy(), TypeError),
    "an array": (lambda: np.asarray(on_device(2)), TypeError),
    "pinning": (lambda: on_device(2).pin_memory(), RuntimeError),
    "a second device": (lambda: torch.ones(2, device="cuda:1"), RuntimeError),
    "whole numbers multiplied": (
        lambda: on_device(2, 2, dtype=torch.int64) @ on_device(2, 2, dtype=torch.int64),
        NotImplementedError),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cuda_refuses_is_refused(cuda, what):
    do, error = REFUSED[what]
    with pytest.raises(error):
        do()


def test_the_fused_adam_refuses_another_layout_and_another_type(cuda):
    for change in (
        lambda moment: moment.contiguous(memory_format=torch.channels_last),
        lambda moment: moment.double(),
        lambda moment: moment.cpu(),
    ):
        parameter = nn.Parameter(on_device(2, 3, 2, 2))
        parameter.grad = on_device(2, 3, 2, 2)
        optimizer = torch.optim.Adam([parameter], fused=True)
        optimizer.step()
        state = optimizer.state[parameter]
        state["exp_avg"] = change(state["exp_avg"])
        with pytest.raises(RuntimeError, match="same dtype, device, and layout"):
            optimizer.step()


# What it counts -----------------------------------------------------------------------------------

WAITS = {
    "item": lambda: on_device(1).item(),
    "bool": lambda: bool(on_device(1)),
    "tolist": lambda: on_device(2).tolist(),
    "nonzero": lambda: on_device(2).nonzero(),
    "a mask as an index": lambda: on_device(2)[on_device(2) > 0],
    "a list as an index": lambda: on_device(3)[[0, 2]],
    "values into a mask": lambda: on_device(2).index_put_((on_device(2) > 0,), on_device(2)),
    "to the host": lambda: on_device(2).cpu(),
    "to the device": lambda: torch.ones(2).to("cuda"),
    "late, but not pinned": lambda: torch.ones(2).to("cuda", non_blocking=True),
    "pinned, but not late": lambda: torch.ones(2).pin_memory().to("cuda"),
    "values of the host": lambda: torch.tensor([1.0], device="cuda"),
    "synchronize": lambda: torch.cuda.synchronize(),
}
WAITS_NOT = {
    "arithmetic": lambda: on_device(2) * 2 + on_device(2),
    "late and pinned": lambda: torch.ones(2).pin_memory().to("cuda", non_blocking=True),
    "one value into a mask": lambda: on_device(2).masked_fill_(on_device(2) > 0, 3),
    "shapes": lambda: (on_device(2).shape, len(on_device(2)), on_device(2).numel()),
    "shapes alone": lambda: on_device(2).to("meta"),
    "the host's own": lambda: (torch.ones(2).nonzero(), torch.ones(1).item()),
}


@pytest.mark.parametrize("what", WAITS)
def test_what_the_host_waits_for_is_counted_with_its_place(cuda, what):
    WAITS[what]()
    assert len(cuda.waits) == 1 and "test_pretended_cuda.py" in cuda.waits[0]


@pytest.mark.parametrize("what", WAITS_NOT)
def test_what_the_host_does_not_wait_for_is_not(cuda, what):
    WAITS_NOT[what]()
    assert cuda.waits == []


def test_launches_are_operations_on_the_device_but_no_views(cuda):
    tensor = on_device(2, 3)                # fill
    tensor.T.detach()[0].view(2)
    torch.ones(2, 3) + 1
    (tensor + 1).relu_()
    assert cuda.launches == ["ones", "add", "relu_"]


# The rest -----------------------------------------------------------------------------------------

def test_the_device_has_random_numbers_of_its_own(cuda):
    torch.manual_seed(1)
    host = torch.rand(3)
    torch.manual_seed(1)
    state = torch.cuda.get_rng_state()
    first = torch.rand(3, device="cuda").tolist()
    assert torch.equal(torch.rand(3), host)  # the device's draws moved nothing on the host
    torch.cuda.set_rng_state(state)
    assert torch.rand(3, device="cuda").tolist() == first


def test_a_file_keeps_the_device_unless_it_is_loaded_elsewhere(cuda, tmp_path):
    torch.save([on_device(2), torch.ones(2)], tmp_path / "file.pt")
    for where, devices in ((None, [DEVICE, CPU]), ("cpu", [CPU, CPU]), ("cuda", [DEVICE, DEVICE])):
        found = torch.load(tmp_path / "file.pt", map_location=where, weights_only=True)
        assert [tensor.device for tensor in found] == devices


def test_autocast_and_inference_are_those_of_the_device(cuda):
    layer, images = nn.Conv2d(1, 1, 1).to("cuda"), on_device(1, 1, 2, 2)
    with torch.autocast("cuda", torch.bfloat16), torch.inference_mode():
        found = layer(images)
    assert found.dtype == torch.bfloat16 and found.device == DEVICE


def test_a_hollow_device_takes_no_memory_and_gives_the_host_zeros():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    with pretended_cuda(hollow=True):
        tensor = torch.ones(2**15, 2**15, device="cuda")  # 4 GiB
        assert (tensor.half() * 2).sum(1)[:3].cpu().tolist() == [0, 0, 0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20
