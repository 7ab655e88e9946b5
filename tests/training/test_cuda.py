"""On a real GPU: what `pretended_cuda` cannot see. `pytest -m cuda`, skipped without one."""

import csv

import numpy as np
import pytest
import torch
from test_cuda_pretended import train_and_validate

from conftest import train, weights, write_six_scans
from dataloader import Slices
from distance import CONVENTIONS, signed_distance
from losses_regional import REGIONAL_LOSSES, build_loss
from networks import NETWORKS, build
from training.augmentation import Augmentation
from training.maps import add_maps
from training.trainer import Trainer
from transforms import distance_maps

pytestmark = [pytest.mark.cuda,
              pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

NETWORKS_2D = [name for name, network in NETWORKS.items() if network.dims == 2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder of size 32: 20 training and 10 validation slices."""
    root = tmp_path_factory.mktemp("cuda")
    write_six_scans(root)
    return root / "data"


# The step -----------------------------------------------------------------------------------------

class NoWaits:
    """Stands for the progress bar: after the first step of an epoch torch refuses to wait.

    What follows the last step may wait, so the epoch's number of steps is known beforehand.
    """

    launches, waits = [], []

    def __init__(self, steps):
        self.left = steps

    def update(self):
        self.left -= 1
        torch.cuda.set_sync_debug_mode("error" if self.left else "default")


@pytest.fixture
def waits_again():
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("network", NETWORKS_2D)
@pytest.mark.parametrize("resident", [True, False])
def test_no_step_waits_for_the_device(data, tmp_path, monkeypatch, waits_again, network, resident):
    monkeypatch.setattr("main.make_resident", lambda *_: resident)
    monkeypatch.setattr("test_cuda_pretended.Steps", lambda cuda: NoWaits(3))
    train_and_validate(NoWaits(3), monkeypatch, data, tmp_path, "--network", network, "--width", 4,
                       "--amp", "bf16")


@pytest.mark.parametrize("resident", [True, False])
def test_augmentation_is_not_waited_for(data, tmp_path, monkeypatch, waits_again, resident):
    monkeypatch.setattr("main.make_resident", lambda *_: resident)
    monkeypatch.setattr("test_cuda_pretended.Steps", lambda cuda: NoWaits(3))
    train_and_validate(NoWaits(3), monkeypatch, data, tmp_path, "--width", 4, "--augment")


def test_augmented_slices_and_maps_are_the_cpus(data):
    loss = build_loss("gsl+boundary", 2, options={"weights": [1, 2]})
    train = Slices(data, "train")
    add_maps(train, loss, 2)
    rows = train.order(0, 0)
    augment, batch = Augmentation(train, loss, 0, 0), train.read(rows)
    on_cpu = augment(batch, rows, 0)
    on_gpu = augment(batch._make(tensor.cuda() for tensor in batch), rows, 0)
    same = (on_gpu.labels.cpu() == on_cpu.labels).flatten(1).all(1)
    assert same.float().mean() > 0.8  # a place between two pixels may be rounded to either
    torch.testing.assert_close(on_gpu.images.cpu(), on_cpu.images, rtol=0, atol=1e-4)
    torch.testing.assert_close(on_gpu.distance.cpu()[same], on_cpu.distance[same], rtol=1e-5,
                               atol=1e-5)


def test_a_step_that_waits_is_noticed(data, tmp_path, monkeypatch, waits_again):
    monkeypatch.setattr("test_cuda_pretended.Steps", lambda cuda: NoWaits(3))
    end_step = Trainer.end_step
    monkeypatch.setattr(Trainer, "end_step", lambda self, loss: (loss.item(),
                                                                 end_step(self, loss))[1])
    with pytest.raises(RuntimeError, match="synchronizing"):
        train_and_validate(NoWaits(3), monkeypatch, data, tmp_path, "--width", 4)


# Losses, networks and maps ------------------------------------------------------------------------

@pytest.mark.parametrize("name", sorted(REGIONAL_LOSSES))
def test_a_loss_and_its_gradient_are_the_cpus(name):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(3, (2, 24, 24), generator=generator)
    target = torch.nn.functional.one_hot(numbers, 3).movedim(-1, 1).bool()
    logits = torch.randn(2, 3, 24, 24, generator=generator)
    loss = build_loss(f"{name}+boundary", 3, options={"weights": [1.0, 2.0, 3.0]}
                      if name in ("wce", "focal") else None)
    phi = distance_maps(numbers, 3)
    if loss.needs_background:
        phi = torch.cat([distance_maps(1 - numbers.clamp(max=1), 2), phi], 1)
    own = loss.make_maps and torch.tensor(np.array([loss.make_maps(one) for one in
                                                    numbers.numpy()]))

    found = {}
    for device in ("cpu", "cuda"):
        z = logits.to(device, copy=True).requires_grad_()
        value, _ = loss.to(device)(z.softmax(1), target.to(device), phi.to(device), (0.5, 0.5), z,
                                   None if own is None else own.to(device))
        value.backward()
        found[device] = value.detach().cpu(), z.grad.cpu()
    torch.testing.assert_close(found["cuda"], found["cpu"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_gives_what_it_gives_on_the_cpu(name):
    torch.manual_seed(0)
    network = build(name, 2, 3, 4).eval()
    images = torch.rand(2, 2, *[32] * network.dims)
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        on_cpu = network(images)
        on_gpu = network.cuda()(images.cuda()).cpu()
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("spacing", [None, (0.9, 1.7), (3.0, 0.9, 1.7)])
def test_maps_made_on_the_device_are_scipys(convention, spacing):
    shape = (2, 17, 23) if spacing is None or len(spacing) == 2 else (2, 6, 17, 23)
    labels = (torch.randint(18, shape, generator=torch.Generator().manual_seed(0)) - 15).clamp(0)
    maps = distance_maps(labels.cuda(), 3, spacing, convention)
    expected = [[signed_distance(label == k, spacing, convention) for k in (1, 2)]
                for label in labels.numpy()]
    assert maps.device.type == "cuda"
    np.testing.assert_allclose(maps.cpu(), expected, rtol=1e-5, atol=1e-5)


# Whole runs ---------------------------------------------------------------------------------------

def losses_of(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("loss", ["gdl+boundary", "dice+ce+boundary"])
def test_a_float32_run_is_close_to_the_cpus(data, tmp_path, loss):
    for device in ("cpu", "cuda"):
        result = train(data, tmp_path / device, "--device", device, "--amp", "off", loss=loss)
        assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(losses_of(tmp_path / "cuda"), losses_of(tmp_path / "cpu"), rtol=0.02)


@pytest.mark.parametrize("first, second", [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_continues_on_the_other_device(data, tmp_path, first, second):
    for device, epochs in ((first, 1), (second, 2)):
        result = train(data, tmp_path / "run", "--device", device, "--schedule", "rebalance",
                       epochs=epochs)
        assert result.returncode == 0, result.stderr
    assert len(losses_of(tmp_path / "run")) == 2


@pytest.mark.parametrize("amp", ["bf16", "off", "fp16"])
def test_each_precision_trains(data, tmp_path, amp):
    result = train(data, tmp_path, "--device", "cuda", "--amp", amp, epochs=4)
    assert result.returncode == 0, result.stderr
    assert np.isfinite(losses_of(tmp_path)).all()


@pytest.mark.parametrize("network", NETWORKS_2D)
def test_a_recorded_step_gives_the_run_of_its_operations(data, tmp_path, network):
    for name, option in (("plain", []), ("graph", ["--cuda-graph"])):
        result = train(data, tmp_path / name, "--device", "cuda", "--deterministic", "--network",
                       network, *option, epochs=4)
        assert result.returncode == 0 and "has no effect" not in result.stdout, result.stderr
    np.testing.assert_allclose(losses_of(tmp_path / "graph"), losses_of(tmp_path / "plain"),
                               rtol=1e-3)
    plain, graph = (weights(tmp_path / name, "last.pt") for name in ("plain", "graph"))
    assert max((plain[key].float() - graph[key].float()).abs().max() for key in plain) < 0.01


@pytest.mark.slow
@pytest.mark.compiles
def test_a_compiled_run_is_close_to_the_run(data, tmp_path):
    for name, option in (("plain", []), ("compiled", ["--compile"])):
        result = train(data, tmp_path / name, "--device", "cuda", "--amp", "off", *option)
        assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(losses_of(tmp_path / "compiled"), losses_of(tmp_path / "plain"),
                               rtol=0.02)


def test_a_network_that_does_not_fit_ends_in_a_line(data, tmp_path):
    result = train(data, tmp_path, "--device", "cuda", "--width", 30000)
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
