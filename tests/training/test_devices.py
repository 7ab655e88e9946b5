"""Device, precision and processor flags: what is chosen, and what is refused."""

from types import SimpleNamespace

import pytest
import torch

from training import devices
from training.devices import (
    choose_amp,
    choose_device,
    choose_memory_format,
    cpu_flags,
    set_up_device,
)
from training.parallel import Group
from utils import UserError


def test_a_device_that_is_not_there_is_refused():
    assert choose_device("auto").type == "cpu"
    with pytest.raises(UserError, match="a CUDA device"):
        choose_device("cuda")


def test_a_cpu_may_have_a_number():
    device = set_up_device(SimpleNamespace(device="cpu:0", deterministic=False, threads=None),
                           Group(alone=True))
    assert device.type == "cpu"


def test_autocast_is_bfloat16_only_where_the_processor_has_it(monkeypatch):
    cpu = torch.device("cpu")
    assert choose_amp("off", cpu) is None and choose_amp("bf16", cpu) == torch.bfloat16
    for flags, expected in (({"avx512_bf16"}, torch.bfloat16), ({"avx2"}, None)):
        monkeypatch.setattr("training.devices.cpu_flags", lambda flags=flags: flags)
        assert choose_amp("auto", cpu) == expected


@pytest.mark.parametrize("device, amp, tf32, last", [
    ("cpu", None, True, False), ("cpu", torch.bfloat16, True, True),
    ("cuda", None, True, True), ("cuda", None, False, False),
    ("cuda", torch.bfloat16, False, True),
])
def test_channels_come_last_where_tensor_cores_compute(monkeypatch, device, amp, tf32, last):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    for dims, layout in ((2, torch.channels_last), (3, torch.channels_last_3d)):
        found = choose_memory_format(amp, torch.device(device), dims)
        assert found == (layout if last else torch.contiguous_format)


@pytest.mark.parametrize("device, deterministic, timed", [
    ("cpu", False, False), ("cuda", False, True), ("cuda", True, False),
])
def test_cudnn_times_its_algorithms_unless_runs_are_to_repeat(
    monkeypatch, device, deterministic, timed
):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not timed)
    monkeypatch.setattr(devices, "be_deterministic", lambda: None)
    monkeypatch.setattr(devices, "choose_device", torch.device)
    set_up_device(SimpleNamespace(device=device, deterministic=deterministic, threads=None),
                  Group(alone=True))
    assert torch.backends.cudnn.benchmark == timed


def test_cpu_flags_are_words():
    assert all(flag.islower() or flag.isdigit() or "_" in flag for flag in cpu_flags())


@pytest.mark.parametrize(
    "text, flags",
    [
        ("vendor_id : X\nflags\t: fpu avx2\nflags : other\n", {"fpu", "avx2"}),
        ("no such line\n", set()),
        (None, set()),
    ],
)
def test_cpu_flags_are_the_first_cores_or_none_if_none_are_listed(
    monkeypatch, tmp_path, text, flags
):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(devices, "Path", lambda _: tmp_path / "cpuinfo")
    assert cpu_flags() == flags
