"""A training step: compiled as one graph, recorded as a CUDA graph, its weights on the device."""

import pytest
import torch

from conftest import assert_same_run, train, write_six_scans
from dataloader import Batch
from losses_regional import build_loss
from networks import build
from pretended_cuda import pretended_cuda
from training import step_graph
from training.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A data folder of size 32: 20 training and 10 validation slices."""
    root = tmp_path_factory.mktemp("step")
    write_six_scans(root)
    return root / "data"


def trainer_of(**options):
    torch.manual_seed(0)
    return Trainer(build("unet", 1, 2, 2), build_loss("gdl+boundary"), CPU, **options)


def batch_of(images, size=16):
    generator = torch.Generator().manual_seed(images)
    return Batch(torch.rand(images, 1, size, size, generator=generator),
                 torch.randint(2, (images, size, size), generator=generator).byte(),
                 torch.randn(images, 1, size, size, generator=generator))


def losses_of(trainer, batch):
    loss = trainer.forward(batch.images).square().mean()
    return loss, {"a part": 2 * loss}


def test_a_step_counts_the_batches_of_every_normalisation_together():
    trainer = trainer_of()
    for _ in range(3):
        trainer.step(losses_of, batch_of(2), 2)
    state = trainer.network.state_dict()
    counts = [int(value) for name, value in state.items() if name.endswith("num_batches_tracked")]
    assert counts == [3] * 18
    assert trainer.network.down[0][1].num_batches_tracked is trainer.counts[0]


def test_a_step_gives_the_loss_and_its_parts_without_their_gradients():
    trainer = trainer_of()
    bad, losses = trainer.step(losses_of, batch_of(2), 2)
    assert not bad and list(losses) == ["loss", "a part"] and losses["a part"] == 2 * losses["loss"]
    assert not any(value.requires_grad for value in losses.values())


def test_eq_6s_weights_keep_their_place_from_epoch_to_epoch():
    trainer = trainer_of()
    first = trainer.set_weights(1.0, 0.0)
    places = [tensor.data_ptr() for tensor in first]
    second = trainer.set_weights(0.99, 0.01)
    assert [tensor.data_ptr() for tensor in second] == places
    assert [tensor.item() for tensor in second] == [torch.tensor(x).item() for x in (0.99, 0.01)]


# Compiled -----------------------------------------------------------------------------------------

@pytest.mark.compiles
@pytest.mark.parametrize("loss, more", [
    ("gdl+boundary", ()), ("wce+boundary", ()), ("gdl+boundary", ("--augment",))])
def test_forward_and_loss_are_one_graph_that_no_epoch_compiles_again(
    scans, tmp_path, monkeypatch, loss, more
):
    from torch._dynamo import reset
    from torch._dynamo.utils import counters

    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda what, **options: compiled(
        what, backend="eager", fullgraph=True, **options))
    reset()
    counters.clear()
    options = ("--batch-size", 10, *more)  # every batch is a full one
    assert train(scans, tmp_path / "compiled", "--compile", *options, loss=loss,
                 epochs=3).returncode == 0
    assert counters["stats"]["unique_graphs"] == 2  # training and validation
    assert not counters["graph_break"]

    train(scans, tmp_path / "plain", *options, loss=loss, epochs=3)
    assert_same_run(tmp_path / "compiled", tmp_path / "plain")


# Recorded -----------------------------------------------------------------------------------------

RATE = 2.0 ** -10  # float32 has it exactly, as a tensor on the device keeps it


@pytest.fixture
def recorded(monkeypatch):
    """Stands for CUDA graphs: [places of all that a step may use, when it is recorded and taken].

    A record takes the step itself again.
    """
    places = []

    def noting(init):
        def inner(trainer, *arguments, **options):
            init(trainer, *arguments, **options)
            monkeypatch.setattr(step_graph, "record", lambda step: record(trainer, step))
        return inner

    def record(trainer, step):
        def replay():
            moments = [value for values in trainer.optimizer.state.values()
                       for value in values.values()]
            used = [*trainer.network.parameters(), *trainer.network.buffers(), *moments,
                    *trainer.weights, trainer.optimizer.param_groups[0]["lr"],
                    *trainer.graph.batch]
            places.append([tensor.data_ptr() for tensor in used])
            return step()
        return replay

    monkeypatch.setattr(Trainer, "__init__", noting(Trainer.__init__))
    monkeypatch.setattr(step_graph, "apart", lambda step, device: step())
    return places


def test_a_recorded_run_is_the_cpus_bit_for_bit_and_keeps_its_places(scans, tmp_path, recorded):
    # 20 slices: two batches of 7 in an epoch and one of 6, which is not recorded
    options = ("--batch-size", 7, "--amp", "bf16", "--lr", RATE, "--schedule", "rebalance:0.3")
    train(scans, tmp_path / "cpu", "--device", "cpu", *options, epochs=4)
    with pretended_cuda():
        for epochs in (1, 4):  # the warm-up begins again when the run goes on
            result = train(scans, tmp_path / "cuda", "--device", "cuda", "--cuda-graph", *options,
                           epochs=epochs)
            assert result.returncode == 0, result.stderr
    assert_same_run(tmp_path / "cpu", tmp_path / "cuda")
    assert len(recorded) == 3 and recorded[0] == recorded[1] == recorded[2]


def test_a_record_is_taken_on_the_same_memory_with_every_batch(recorded):
    trainer = trainer_of()
    trainer.graph, seen = step_graph.StepGraph(CPU), []

    def losses_of(trainer, batch):
        seen.append((batch.images.data_ptr(), batch.images.clone()))
        loss = trainer.forward(batch.images).square().mean()
        return loss, {}

    trainer.optimizer.param_groups[0]["lr"] = torch.tensor(RATE)
    batches = [batch_of(3, size=16) for _ in range(2)] + [batch_of(2)] + [
        batch_of(3)._replace(images=batch_of(3).images + number) for number in range(4)]
    for batch in batches:
        trainer.step(losses_of, batch, len(batch.images))

    full = [at for at, batch in enumerate(batches) if len(batch.images) == 3]
    assert len({seen[at][0] for at in full}) == 1
    assert all(torch.equal(values, batch.images)
               for (_, values), batch in zip(seen, batches, strict=True))
    assert len(recorded) == len(full) - step_graph.WARM_UP == 3
    assert recorded[0] == recorded[1] == recorded[2]


def test_where_nothing_can_be_recorded_a_line_says_so(scans, tmp_path):
    result = train(scans, tmp_path / "run", "--device", "cpu", "--cuda-graph", epochs=1)
    assert result.returncode == 0 and "--cuda-graph has no effect on a CPU" in result.stdout
    assert train(scans, tmp_path / "run", "--cuda-graph", loss="hausdorff").returncode == 2


# Class weights ------------------------------------------------------------------------------------

def test_class_weights_are_a_buffer_that_no_checkpoint_has():
    loss = build_loss("wce+boundary", 2, options={"weights": [1.0, 3.0]})
    assert [name for name, _ in loss.named_buffers()] == ["regional.weights"]
    assert loss.state_dict() == {} and loss.regional.weights.tolist() == [1, 3]
