"""GPUs that torch cannot use are one line with what to do; the one asked for decides precision."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from conftest import pytest_configure, refuses, train
from pretended_cuda import pretended_cuda
from training import devices, gpus
from training.devices import choose_amp, choose_device
from training.gpus import has_kernels
from training.parallel import Group
from utils import UserError

WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]  # torch 2.14.1 for CUDA 13.0
OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: http://www.nvidia.com/")


@pytest.mark.parametrize("capability, built_for, runs", [
    ((7, 5), WHEEL, True),               # T4
    ((8, 9), WHEEL, True),               # RTX 40: the code of 8.6
    ((12, 1), WHEEL, True),
    ((7, 0), WHEEL, False),              # V100: 7.5 is newer
    ((6, 1), WHEEL, False),              # GTX 10
    ((11, 0), WHEEL, False),             # another major version
    ((9, 0), ["sm_90a"], True),
    ((8, 0), ["sm_86"], False),
    ((11, 0), ["sm_80", "compute_90"], True),   # compiled on the machine
    ((8, 6), ["compute_90"], False),
    ((9, 0), [], False),
    ((9, 0), ["gfx942"], False),
])
def test_code_runs_on_its_own_major_version_from_its_minor_one_on(capability, built_for, runs):
    assert has_kernels(capability, built_for) == runs


@pytest.mark.parametrize("marks, shown", [
    ("", ""), (None, ""), ("not cuda", ""), ("not slow", ""), ("slow and not cuda", ""),
    ("cuda", "0"), ("cuda and not slow", "0"), ("slow or cuda", "0")])
def test_the_tests_compute_on_the_cpu_but_for_those_of_m_cuda(monkeypatch, marks, shown):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    pytest_configure(SimpleNamespace(getoption=lambda *_: marks))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == shown


# What is in sight ---------------------------------------------------------------------------------

@pytest.fixture
def unusable(monkeypatch):
    """A GPU in /dev that torch does not count, for the reason set as `unusable(error)`."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "device_files", lambda: [Path("/dev/nvidia0")])

    def because(error, cuda="13.0"):
        def init():
            raise error

        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.version, "cuda", cuda)

    because(RuntimeError("Unexpected error from cudaGetDeviceCount(). Did you run some function?"))
    return because


@pytest.mark.parametrize("name", ["auto", "cuda"])
@pytest.mark.parametrize("error, cuda, words", [
    (OLD_DRIVER, "13.0", ["driver on your system is too old (found version 11040)", "Update the"]),
    ("Unexpected error from cudaGetDeviceCount()", "13.0", ["Unexpected error", "nvidia-smi"]),
    ("Torch not compiled with CUDA enabled", None, ["built without CUDA", "Install one with"]),
])
def test_a_gpu_that_torch_cannot_use_is_one_line(unusable, name, error, cuda, words):
    unusable(AssertionError(error) if cuda is None else RuntimeError(error), cuda)
    with pytest.raises(UserError) as found:
        choose_device(name)
    text = str(found.value)
    assert "\n" not in text and text.endswith("or take --device cpu.")
    assert all(word in text for word in [*words, f"a GPU that torch {torch.__version__}"]), text


def test_no_program_takes_the_cpu_for_a_gpu_that_torch_cannot_use(unusable, data, tmp_path):
    unusable(RuntimeError(OLD_DRIVER))
    refuses(train(data, tmp_path / "run"), "too old", "--device cpu")
    assert train(data, tmp_path / "run", "--device", "cpu", epochs=1).returncode == 0


@pytest.mark.parametrize("shown", ["", " ", "-1", "NoDevFiles"])
def test_a_gpu_that_is_hidden_is_not_in_sight(unusable, monkeypatch, shown):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert choose_device("auto").type == "cpu"


def test_a_machine_without_a_gpu_takes_the_cpu(unusable, monkeypatch):
    monkeypatch.setattr(gpus, "device_files", list)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(UserError, match="none that torch can use"):
        choose_device("cuda")


# Of several ---------------------------------------------------------------------------------------

@pytest.fixture
def several(monkeypatch):
    """GPUs of these capabilities and a torch of WHEEL; `current` is torch's current device."""
    def install(*capabilities):
        def capability(device=None):
            return capabilities[torch.device(device or "cuda").index or 0]

        for name, answer in {
            "is_available": lambda: True, "device_count": lambda: len(capabilities),
            "get_device_capability": capability, "get_arch_list": lambda: WHEEL,
            "get_device_name": lambda device: f"card {torch.device(device).index or 0}",
            "set_device": lambda device: None,
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)

    return install


def test_a_gpu_without_kernels_is_named_and_another_one_taken(several):
    several((8, 0), (7, 0))
    assert choose_device("auto").type == choose_device("cuda:0").type == "cuda"
    with pytest.raises(UserError, match=r"cuda:1: expected .*sm_75, .* found card 1 of sm_70"):
        choose_device("cuda:1")
    with pytest.raises(UserError, match="a CUDA device for cuda:2, found 2 of them"):
        choose_device("cuda:2")


def test_a_gpu_without_kernels_is_not_passed_over_for_the_cpu(several):
    several((7, 0))
    with pytest.raises(UserError, match="found card 0 of sm_70.*docs/speed.md"):
        choose_device("auto")


def test_the_capability_of_the_device_asked_for_decides_precision(several):
    several((8, 0), (7, 5), (6, 1))
    names = ("cuda", "cuda:0", "cuda:1", "cuda:2")
    assert [choose_amp("auto", torch.device(name)) for name in names] == [
        torch.bfloat16, torch.bfloat16, torch.float16, None]
    assert choose_amp("bf16", torch.device("cuda:2")) == torch.bfloat16  # as it is asked for


def test_a_process_without_a_gpu_of_its_own_is_one_line(several, monkeypatch):
    several((8, 0), (7, 0))
    monkeypatch.setenv("WORLD_SIZE", "4")
    args = type("Options", (), {"deterministic": False, "device": "cuda", "threads": None})
    for rank, words in ((1, "card 1 of sm_70"), (3, "a CUDA device for cuda:3, found 2")):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        with pytest.raises(UserError, match=words):
            devices.set_up_device(args, Group())


def test_a_pretended_device_without_kernels_is_refused(data, tmp_path):
    with pretended_cuda(capability=(7, 0)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "get_arch_list", lambda: WHEEL)
        refuses(train(data, tmp_path / "run"), "of sm_70", "or take --device cpu")
    assert not (tmp_path / "run" / "config.json").exists()
