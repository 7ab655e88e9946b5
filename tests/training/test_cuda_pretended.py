"""Training and prediction on a pretended CUDA device: what it refuses, waits for and computes."""

import inspect
import json
import shutil
import textwrap
from contextlib import nullcontext
from itertools import product
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

import dataloader
import main
from conftest import (
    assert_same_run,
    preprocess,
    run,
    train,
    weights,
    write_six_scans,
)
from dataloader import Slices
from losses_regional import REGIONAL_LOSSES, build_loss
from networks import NETWORKS, build
from pretended_cuda import MEMORY, pretended_cuda
from training import (
    checkpoint,
    epoch,
    inference,
    monitor,
    nonfinite,
    validation,
    volumes_in_bfloat16,
)
from training.augmentation import takes_affine
from training.config import open_training
from training.parallel import Group

BF16 = ("--amp", "bf16")
NETWORKS_2D = [name for name, network in NETWORKS.items() if network.dims == 2]

# Operations that a step may launch, of which a GPU takes some 10 us each: about a tenth more than
# today, and for the paper's UNet what it is held to.
CEILING = {"unet": 289, "unet2018": 390, "resunet": 395, "enet": 1360}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with raw/, six scans of 20x24x5, and data/, of size 32, 3-D maps."""
    root = tmp_path_factory.mktemp("pretended")
    write_six_scans(root)
    return root


@pytest.fixture(scope="module")
def data(root):
    return root / "data"


@pytest.fixture(autouse=True, scope="module")
def operations_are_not_counted():
    """That takes longer than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "describe_run", lambda *_: "a run")
        yield


# Full size ----------------------------------------------------------------------------------------

class Steps(list):
    """Stands for the progress bar: what the device was asked for in each training step."""

    def __init__(self, cuda):
        super().__init__()
        self.cuda = cuda

    def update(self):
        self.append((len(self.cuda.launches), list(self.cuda.waits)))
        self.cuda.launches.clear()
        self.cuda.waits.clear()


def train_and_validate(cuda, monkeypatch, data, out, *options):
    """An epoch of main.py on the device, but for what its sums are; (Steps, validation's waits)."""
    monkeypatch.setattr(main, "training_columns", lambda *_: {})
    words = ["--data", data, "--out", out, "--device", "cuda", *options]
    args = main.parse_arguments([str(word) for word in words])
    train = open_training(args)
    trainer, val, run_folder = main.prepare(args, train, Group(alone=True))

    stop, steps = SimpleNamespace(obey=lambda: None), Steps(cuda)
    main.train_one_epoch(args, trainer, train, 0.9, 0.1, run_folder, stop, steps)
    cuda.waits.clear()
    main.validate(trainer, val, args, 0)
    return steps, cuda.waits


@pytest.fixture(scope="module")
def large(root):
    """The scans at the paper's 256x256."""
    assert preprocess(root / "raw", root / "large", "--size", 256).returncode == 0
    assert Slices(root / "large", "train").read([0]).images.shape == (1, 2, 256, 256)
    return root / "large"


@pytest.mark.parametrize("network", NETWORKS_2D)
def test_a_full_size_step_in_bfloat16_never_waits_and_launches_little(
    large, tmp_path, monkeypatch, network
):
    with pretended_cuda(hollow=True) as cuda:
        steps, waits = train_and_validate(
            cuda, monkeypatch, large, tmp_path, "--network", network, *BF16
        )
    launches = [count for count, _ in steps]  # the first step makes Adam's moments too
    assert len(steps) == 3 and [found for _, found in steps[1:]] == [[], []]
    assert max(launches[1:]) <= CEILING[network], launches
    assert len(waits) == 3, waits  # the rows go to the device; two scans' classes come back


@pytest.mark.parametrize("loss", sorted(set(REGIONAL_LOSSES) - {"hausdorff"}))
def test_no_loss_waits_in_a_step(data, tmp_path, monkeypatch, loss):
    options = ["--loss-options", "weights=1,2"] if loss in ("wce", "focal") else []
    with pretended_cuda(hollow=True) as cuda:
        steps, _ = train_and_validate(
            cuda, monkeypatch, data, tmp_path, "--width", 2, "--loss", f"{loss}+boundary", *options
        )
    assert [found for _, found in steps[1:]] == [[], []]


def test_boundary_classes_that_lie_apart_are_not_waited_for():
    with pretended_cuda() as cuda:
        s = torch.rand(2, 4, 8, 8, device="cuda", requires_grad=True)
        phi = torch.randn(2, 3, 8, 8, device="cuda")
        build_loss("boundary", 4, boundary_classes=[1, 3])(s, None, phi)[0].backward()
    assert s.grad[:, [1, 3]].any() and not s.grad[:, [0, 2]].any() and cuda.waits == []


@pytest.mark.parametrize("loss, memory", [("gdl+boundary", MEMORY), ("gsl+boundary", 0)])
def test_augmentation_is_not_waited_for(data, tmp_path, monkeypatch, loss, memory):
    assert takes_affine(Slices(data, "train"))
    with pretended_cuda(hollow=True, memory=memory) as cuda:
        steps, _ = train_and_validate(
            cuda, monkeypatch, data, tmp_path, "--width", 2, "--loss", loss, "--augment"
        )
    assert [found for _, found in steps[1:]] == [[], []]


def test_slices_that_are_not_kept_on_the_device_are_not_waited_for(data, tmp_path, monkeypatch):
    with pretended_cuda(hollow=True, memory=0) as cuda:
        steps, _ = train_and_validate(cuda, monkeypatch, data, tmp_path, "--width", 2)
    assert [found for _, found in steps[1:]] == [[], []]


# Whole runs ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("loss, memory", [
    ("gdl+boundary", MEMORY), ("dice+ce", 0), ("hausdorff", MEMORY)])
def test_a_run_and_its_predictions_are_the_cpus_bit_for_bit(root, data, tmp_path, loss, memory):
    assert train(data, tmp_path / "cpu", "--device", "cpu", *BF16, loss=loss).returncode == 0
    with pretended_cuda(memory=memory) as cuda:
        result = train(data, tmp_path / "cuda", loss=loss)  # finds the device by itself
        masks = run("predict.py", "--checkpoint", tmp_path / "cuda" / "best.pt", "--out",
                    tmp_path / "masks", root / "raw")
    assert result.returncode == masks.returncode == 0, result.stderr + masks.stderr
    assert_same_run(tmp_path / "cpu", tmp_path / "cuda")
    scores = [(tmp_path / name / "scores.csv").read_text() for name in ("cpu", "cuda")]
    assert scores[0] == scores[1]  # though the CPU computes them before the next epoch begins

    config = json.loads((tmp_path / "cuda" / "config.json").read_text())
    assert (config["device"], config["amp"]) == ("a pretended device", "bfloat16")
    assert "_fused_adam_" in cuda.launches
    own = list((tmp_path / "cuda" / "predictions").glob("*.nii.gz"))
    assert len(own) == 2 and all(
        (voxels(path) == voxels(tmp_path / "masks" / path.name)).all() for path in own)


def voxels(path):
    return np.asanyarray(nib.load(path).dataobj)


def test_a_run_in_3d_is_the_cpus_bit_for_bit(data, tmp_path, monkeypatch):
    # In bfloat16 on both, by torch's own convolutions: where oneDNN's are wrong, they differ from
    # run to run, and the CPU's run would be in float32.
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    monkeypatch.setattr(volumes_in_bfloat16, "problem_of_bfloat16", lambda *_: None)
    options = ["--dims", 3, "--patch", 8, 32, 32, "--loss", "gdl", *BF16]
    train(data, tmp_path / "cpu", "--device", "cpu", *options, epochs=1)
    with pretended_cuda():
        result = train(data, tmp_path / "cuda", "--device", "cuda", *options, epochs=1)
    assert result.returncode == 0, result.stderr
    assert_same_run(tmp_path / "cpu", tmp_path / "cuda")
    assert precision(tmp_path / "cpu") == precision(tmp_path / "cuda") == "bfloat16"


def precision(folder):
    return json.loads((folder / "config.json").read_text())["amp"]


def test_a_resumed_run_draws_the_devices_random_numbers_on(data, tmp_path, monkeypatch):
    def with_dropout(*architecture):
        network = build(*architecture)
        network.pool = nn.Sequential(network.pool, nn.Dropout2d(0.2))
        return network

    monkeypatch.setattr(main, "build", with_dropout)
    with pretended_cuda():
        for name, epochs in (("whole", 2), ("parts", 1), ("parts", 2)):
            options = (*BF16, "--schedule", "rebalance")
            assert train(data, tmp_path / name, *options, epochs=epochs).returncode == 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


# Resuming on another device and in another precision ----------------------------------------------

PLACES = list(product(("cpu", "cuda"), ("bf16", "off")))


def train_at(place, data, out, epochs):
    """Train, or go on, at a (device, precision); returns the weights that are reached."""
    device, amp = place
    with pretended_cuda() if device == "cuda" else nullcontext():
        result = train(data, out, "--device", device, "--amp", amp, "--lr", 0.003, "--schedule",
                       "rebalance", epochs=epochs)
    assert result.returncode == 0, result.stderr
    network = weights(out, "last.pt")
    return torch.cat([value.double().flatten() for name, value in network.items()
                      if name.endswith(("weight", "bias"))])


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """{place: (run folder after epoch 1, weights then, weights after epoch 2 of a whole run)}."""
    runs = {}
    for place in PLACES:
        folder = tmp_path_factory.mktemp("-".join(place))
        runs[place] = (folder / "half", train_at(place, data, folder / "half", 1),
                       train_at(place, data, folder / "whole", 2))
    return runs


@pytest.mark.parametrize("first", PLACES, ids="-".join)
@pytest.mark.parametrize("second", PLACES, ids="-".join)
def test_a_run_continues_on_any_device_in_any_precision(
    data, tmp_path, uninterrupted, first, second
):
    half, start, end = uninterrupted[first]
    shutil.copytree(half, tmp_path / "run")
    found = train_at(second, data, tmp_path / "run", 2)
    if first[1] == second[1] == "bf16" or first == second:
        assert torch.equal(found, end)

    # Moments of other weights would lead as far away as the epoch itself.
    assert (found - end).norm() < 0.4 * (end - start).norm()


def test_moments_in_another_layout_are_refused_by_the_device(
    data, tmp_path, uninterrupted, monkeypatch
):
    monkeypatch.setattr(checkpoint, "lay_out_moments", lambda optimizer: None)
    shutil.copytree(uninterrupted["cpu", "off"][0], tmp_path / "run")
    with pytest.raises(RuntimeError, match="same dtype, device, and layout"):
        train_at(("cuda", "off"), data, tmp_path / "run", 2)


# Faults that a CPU does not notice ----------------------------------------------------------------

def plant(monkeypatch, owner, name, line, fault):
    """Put a fault into a function of a module, or a method of a class."""
    function = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(line) == 1
    space = {}
    exec(source.replace(line, fault), function.__globals__, space)
    monkeypatch.setattr(owner, name, space[name])


REFUSED = {
    "a CPU tensor in the step": (
        main, "one_hot", "device=labels.device, ", "", RuntimeError, "on the same device"),
    "a missing .cpu()": (
        validation, "scans_by_slices", ".cpu().numpy()", ".numpy()", TypeError, "Use Tensor.cpu"),
    "a type without a kernel": (
        inference, "classes_of", "logits.argmax(1).to(torch.uint8)",
        "torch.max_pool2d(logits.argmax(1).to(torch.uint8), 1)", NotImplementedError,
        "not implemented for torch.uint8"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_fault_that_the_cpu_runs_is_refused(data, tmp_path, monkeypatch, fault):
    owner, name, line, instead, error, words = REFUSED[fault]
    plant(monkeypatch, owner, name, line, instead)
    assert train(data, tmp_path / "cpu", "--device", "cpu", epochs=1).returncode == 0
    with pretended_cuda(), pytest.raises(error, match=words):
        train(data, tmp_path / "cuda", "--device", "cuda", epochs=1)


WAITS = {
    "an .item()": (
        epoch.EpochUnderWay, "add", "self.bad[self.step] = bad", "self.bad[self.step] = bad.item()",
        MEMORY),
    "an if": (nonfinite, "step_unless", "if fused or not bad:", "if not bad or fused:", MEMORY),
    "a copy that is not late": (dataloader, "to_device", ", non_blocking=True", "", 0),
    "memory that is not pinned": (dataloader, "to_device", ".pin_memory()", "", 0),
}


@pytest.mark.parametrize("fault", WAITS)
def test_a_fault_that_waits_is_counted(data, tmp_path, monkeypatch, fault):
    owner, name, line, instead, memory = WAITS[fault]
    plant(monkeypatch, owner, name, line, instead)
    with pretended_cuda(hollow=True, memory=memory) as cuda:
        steps, _ = train_and_validate(cuda, monkeypatch, data, tmp_path, "--width", 2)
    assert all(found for _, found in steps)
