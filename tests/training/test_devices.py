"""Device, precision and processor flags: what is chosen, and what is refused."""

import pytest
import torch

from training import devices
from training.devices import choose_amp, choose_device, cpu_flags
from utils import UserError


def test_a_device_that_is_not_there_is_refused():
    assert choose_device("auto").type == "cpu"
    with pytest.raises(UserError, match="a CUDA device"):
        choose_device("cuda")


def test_autocast_is_bfloat16_only_where_the_processor_has_it(monkeypatch):
    cpu = torch.device("cpu")
    assert choose_amp("off", cpu) is None and choose_amp("bf16", cpu) == torch.bfloat16
    for flags, expected in (({"avx512_bf16"}, torch.bfloat16), ({"avx2"}, None)):
        monkeypatch.setattr("training.devices.cpu_flags", lambda flags=flags: flags)
        assert choose_amp("auto", cpu) == expected


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
