"""bfloat16 convolutions of volumes on a CPU: used only after a check of the processor's library."""

import sys

import pytest
import torch
from torch import nn

from networks import build
from training import volumes_in_bfloat16
from training.volumes_in_bfloat16 import (
    amp_of_volumes,
    convolutions_of,
    first_wrong,
    problem_of_bfloat16,
)

CPU, NETWORK, PATCH = torch.device("cpu"), ["unet3d", 1, 2, 2], [8, 8, 8]


def test_auto_is_float32_even_where_the_processor_has_bfloat16(monkeypatch):
    monkeypatch.setattr("training.devices.cpu_flags", lambda: {"avx512_bf16"})
    monkeypatch.setattr(volumes_in_bfloat16, "problem_of_bfloat16", lambda *_: 1 / 0)  # not asked
    assert amp_of_volumes("auto", CPU, NETWORK, PATCH) is None


@pytest.mark.parametrize("problem, amp", [(None, torch.bfloat16), ("crash (signal 11)", None)])
def test_bf16_is_used_only_if_the_check_finds_nothing(monkeypatch, capsys, problem, amp):
    monkeypatch.setattr(volumes_in_bfloat16, "problem_of_bfloat16", lambda *_: problem)
    assert amp_of_volumes("bf16", CPU, NETWORK, PATCH, 2) is amp
    assert ("float32 instead" in capsys.readouterr().out) is bool(problem)


def test_every_convolution_of_the_network_is_looked_at():
    found = convolutions_of(build(*NETWORK), torch.zeros(2, 1, *PATCH))
    assert len(found) == 18                                # 14 of 3x3x3, 3 transposed, the head
    assert found[0][2] == (2, 1, 8, 8, 8) and found[6][2] == (2, 8, 1, 1, 1)  # the deepest level


class WrongInBfloat16(nn.Conv3d):
    """A convolution with gradients of 1e14 in bfloat16, as unwritten memory has given."""

    def forward(self, image):
        output = super().forward(image)
        if output.dtype == torch.bfloat16:
            output.register_hook(lambda gradient: gradient + 1e14)
        return output


def test_a_wrong_gradient_is_found_and_its_layer_named():
    layers = nn.Sequential(nn.Conv3d(1, 2, 1), WrongInBfloat16(2, 2, 3, padding=1))
    right = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Conv3d(2, 2, 1))
    found = first_wrong(layers, 1, (4, 4, 4), 1)
    assert found.startswith("1 of (1, 2, 4, 4, 4): relative error")
    assert first_wrong(right, 1, (4, 4, 4), 1) is None


@pytest.mark.parametrize("body, words", [
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crash (signal 11)"),
    ("import time; time.sleep(60)", "take longer than 2 s"),
    ("print('head of ...: relative error 9'); raise SystemExit(1)", "are wrong (head of"),
])
def test_a_crash_a_hang_and_a_wrong_number_are_each_a_problem(monkeypatch, tmp_path, body, words):
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{body}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert problem_of_bfloat16(NETWORK, PATCH, 1, timeout=2).startswith(words)


def test_the_check_runs_as_a_process_of_its_own():
    problem = problem_of_bfloat16(["unet3d", 1, 2, 4], [16, 16, 16], 1)
    assert problem is None or problem.startswith(("are wrong (", "crash", "take longer"))
