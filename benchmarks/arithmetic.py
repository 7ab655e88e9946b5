"""What a training step on a GPU consists of, and the least time that it can take.

Computed, not measured: a step of 8x256x256 in bfloat16 is taken on tensors that hold no values. Of
every operation are known its floating-point operations (a multiply-add counts as two), the bytes
that it must read and write once, and that it is one launch. The roofline of a GPU gives each
operation the longer of two times, that of its arithmetic at the card's peak and that of its bytes
at the memory's, and adds them up.

    python -m benchmarks arithmetic      # prints the tables and puts them into docs/speed.md
"""

from typing import NamedTuple
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.common import ROOT
from benchmarks.training import Step
from utils import markdown_table

NETWORKS = ("unet", "unet2018", "enet")
WIDTH, SIZE, BATCH = 64, 256, 8
SLICES = {"WMH": (3000, 580), "ISLES": (400, 100)}  # for training and validation, about
LAUNCH = 10e-6  # seconds of the host for an operation, about
aten = torch.ops.aten

# Operations that only reserve memory
FREE = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided,
        aten.detach, aten._unsafe_view, aten.lift_fresh, aten.set_}


class Card(NamedTuple):
    """A GPU by its data sheet: SXM, dense bfloat16."""

    name: str
    flops: float  # FLOP/s in bfloat16
    bytes: float  # of memory, a second


CARDS = (Card("A100", 312e12, 2.039e12), Card("H100", 989e12, 3.35e12),
         Card("H200", 989e12, 4.8e12))


class Operation(NamedTuple):
    name: str
    flop: int
    bytes: int


class Tally(TorchDispatchMode):
    """Notes every operation but views and reservations; `operations` is the list."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results, packet = func(*args, **(kwargs or {})), func.overloadpacket
        if func.namespace == "aten" and not func.is_view and packet not in FREE:
            count = flop_registry.get(packet)
            flop = count(*args, **(kwargs or {}), out_val=results) if count else 0
            given = {id(tensor): tensor for tensor in tree_leaves((args, kwargs, results))
                     if isinstance(tensor, torch.Tensor)}
            self.operations.append(Operation(packet.__name__, flop, sum(
                tensor.numel() * tensor.element_size() for tensor in given.values())))
        return results


def operations_of(network, width=WIDTH, size=SIZE, batch=BATCH, training=True):
    """The Operations of a step in bfloat16 or, of validation, of a forward pass."""
    tally = Tally()
    with FakeTensorMode(), patch.object(torch.nn.Module, "to", lay_out):
        step = Step(network, width, size, batch, "cpu", torch.bfloat16)
        if training:
            step()  # makes Adam's moments
            with tally:
                step()
        else:
            step.network.eval()
            with torch.inference_mode(), tally:
                step.segment(step.batch.images)
    return tally.operations


def lay_out(module, *_, memory_format=None, **__):
    """Stands for Module.to, which cannot move such tensors; they need a layout alone."""
    for each in module.modules() if memory_format else ():
        for name, parameter in each.named_parameters(recurse=False):
            if parameter.ndim == 4:
                weights = parameter.detach().contiguous(memory_format=memory_format)
                setattr(each, name, torch.nn.Parameter(weights))
    return module


class Work(NamedTuple):
    """What a step, or a forward pass of as many slices, amounts to."""

    flop: int
    bytes: int
    launches: int
    floors: dict  # name of a card: seconds


def work_of(network, training=True, **shape):
    operations = operations_of(network, training=training, **shape)
    floors = {card.name: sum(max(each.flop / card.flops, each.bytes / card.bytes)
                             for each in operations) for card in CARDS}
    # Norms of all gradients are one launch on a GPU.
    norms = [each for each in operations if each.name == "linalg_vector_norm"]
    launches = len(operations) - max(0, len(norms) - 1)
    return Work(sum(each.flop for each in operations), sum(each.bytes for each in operations),
                launches, floors)


# The tables of docs/speed.md ----------------------------------------------------------------------

def step_rows(works):
    """A row per network: the work of a step and its floors.

    Args:
        works: {network: (Work of a step, Work of a forward pass)}.
    """
    head = ["network", "TFLOP", "GB read and written", "launches", "launches at 10 us",
            *(f"floor {card.name}" for card in CARDS)]
    rows = [[f"`{network}`", f"{step.flop / 1e12:.3f}", f"{step.bytes / 1e9:.1f}",
             str(step.launches), f"{1e3 * step.launches * LAUNCH:.1f} ms",
             *(f"{1e3 * step.floors[card.name]:.1f} ms" for card in CARDS)]
            for network, (step, _) in works.items()]
    return [head, *rows]


def epoch_seconds(works, network, card, slices):
    """(training, validation) seconds of an epoch at a card's floor or, if longer, the launches'."""
    return [count / BATCH * max(work.floors[card], work.launches * LAUNCH)
            for count, work in zip(slices, works[network], strict=True)]


def epoch_rows(works):
    """A row per network and data set: seconds of an epoch, and hours of the paper's six runs."""
    head = ["network", "set", *(f"epoch, {card.name}" for card in CARDS),
            *(f"6 runs of 200, {card.name}" for card in CARDS)]
    rows = []
    for network in works:
        for name, slices in SLICES.items():
            epochs = [sum(epoch_seconds(works, network, card.name, slices)) for card in CARDS]
            rows.append([f"`{network}`", name, *(f"{seconds:.1f} s" for seconds in epochs),
                         *(f"{6 * 200 * seconds / 3600:.1f} h" for seconds in epochs)])
    return [head, *rows]


def tables():
    """The text of both tables."""
    works = {network: (work_of(network), work_of(network, training=False))
             for network in NETWORKS}
    return "\n\n".join(markdown_table(rows) for rows in (step_rows(works), epoch_rows(works)))


def put_into(text, new):
    """A document with these tables in place of those with the same head."""
    for each in new.split("\n\n"):
        head = each.splitlines()[0]
        start = text.index(f"\n{head}\n") + 1
        end = text.index("\n\n", start)
        text = text[:start] + each + text[end:]
    return text


def run(args, folder):
    """Print the tables and put them into docs/speed.md; nothing is measured or recorded."""
    new = tables()
    print(new)
    path = ROOT / "docs" / "speed.md"
    path.write_text(put_into(path.read_text(encoding="utf-8"), new), encoding="utf-8")
