"""What is done beside the training: jobs in order, their errors told, copies that do not change."""

import threading
from types import SimpleNamespace

import pytest
import torch

from training.background import Background
from training.snapshot import Snapshot
from training.validation import is_scored_later

CPU = torch.device("cpu")


def test_jobs_end_in_order_and_their_outcomes_are_taken_by_the_main_thread():
    taken, main = [], threading.get_ident()

    def then(value):
        taken.append((value, threading.get_ident()))

    with Background() as background:
        for number in range(3):
            background.begin(lambda number=number: (number, threading.get_ident()), then)
    assert [value[0] for value, _ in taken] == [0, 1, 2]
    assert all(where == main != thread for (_, thread), where in taken)


def test_an_outcome_is_taken_once_the_job_is_done_and_not_before():
    goes_on, taken = threading.Event(), []
    with Background() as background:
        background.begin(goes_on.wait, taken.append)
        background.poll()
        assert taken == []
        goes_on.set()
        background.finish()
        background.poll()
    assert taken == [True]


def test_the_error_of_a_job_is_raised_where_its_outcome_would_be_taken():
    with pytest.raises(ZeroDivisionError), Background() as background:
        background.begin(lambda: 1 / 0, print)
        background.finish()
    with pytest.raises(ZeroDivisionError), Background() as background:
        background.begin(lambda: 1 / 0, print)


def test_after_an_error_the_job_is_ended_and_the_error_is_told():
    ended = []
    with pytest.raises(KeyError), Background() as background:
        background.begin(lambda: ended.append(1), lambda _: 1 / 0)
        raise KeyError
    assert ended == [1]


# Copies -------------------------------------------------------------------------------------------

def test_a_copy_stays_while_the_state_changes_and_until_the_next_is_taken():
    weights = torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    state = {"network": {"a": weights}, "moments": [torch.zeros(2), 1.5], "rows": [{"epoch": 0}]}
    snapshot = Snapshot(CPU)
    first = snapshot.take(state)
    weights += 1
    assert first["network"]["a"].unique().item() == 1 and first["moments"][1] == 1.5
    assert first["network"]["a"].stride() == weights.stride()

    second = snapshot.take(state)
    assert second["network"]["a"].data_ptr() == first["network"]["a"].data_ptr()
    assert second["network"]["a"].unique().item() == 2 and second["rows"] is not state["rows"]


def test_a_copy_of_another_shape_or_layout_has_memory_of_its_own():
    snapshot = Snapshot(CPU)
    first = snapshot.take([torch.zeros(2, 3)])[0]
    for other in (torch.ones(3, 2), torch.ones(3, 2).T, torch.ones(2, 3).double()):
        found = snapshot.take([other])[0]
        assert torch.equal(found, other) and found.stride() == other.stride()
    assert not first.any()


# Scores -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("device, world, score, later", [
    ("cuda", 1, "val_dice", True), ("cuda", 1, "val_dice_3d", True),
    ("cuda", 1, "val_dice_lesion", True), ("cuda", 1, "val_lesion_f1", False),
    ("cuda", 2, "val_dice", False), ("cpu", 1, "val_dice", False),
])
def test_scores_wait_for_the_next_epoch_on_one_gpu_but_never_the_chosen_one(
    device, world, score, later
):
    trainer = SimpleNamespace(device=torch.device(device), group=SimpleNamespace(world=world))
    assert is_scored_later(trainer, SimpleNamespace(score=score)) == later
