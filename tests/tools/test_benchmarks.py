"""The benchmarks compare like with like: the baseline computes what this repository computes."""

import sys

import numpy as np
import pytest
import torch

from benchmarks import baseline, boundary, common, growth, losses, metrics, surfaces, training
from distance import signed_distance
from losses_regional import REGIONAL_LOSSES, build_loss
from metrics import surface_scores


def test_the_baselines_objective_and_gradient_are_ours():
    torch.manual_seed(0)
    probs = torch.randn(2, 2, 8, 8).softmax(1).requires_grad_()
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    labels[0, 2:5, 2:5] = 1
    target, maps = torch.stack([labels == 0, labels == 1], 1), torch.randn(2, 1, 8, 8)

    ours = build_loss("gdl+boundary")(probs, target, maps, (0.3, 0.7))[0]
    theirs = baseline.objective(probs, target.int(), torch.cat([maps, maps], 1), alpha=0.3)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, probs)[0] for loss in (ours, theirs)))


def test_the_baselines_losses_check_their_arguments():
    with pytest.raises(AssertionError):
        baseline.generalized_dice(torch.full((1, 2, 4, 4), 0.6),
                                  torch.zeros(1, 2, 4, 4, dtype=torch.int32))


def test_the_baselines_maps_are_the_official_ones():
    mask = np.zeros((12, 12), bool)
    mask[3:8, 4:9] = True
    maps = baseline.distance_maps(np.stack([~mask, mask]))
    np.testing.assert_allclose(maps[1], signed_distance(mask, convention="official"), atol=1e-6)
    assert not baseline.distance_maps(np.stack([~mask & False, mask]))[0].any()  # an absent class


def test_ratios_are_medians_of_the_rounds():
    result = common.compare([(10.0, 1.0), (30.0, 2.0), (8.0, 4.0)])
    assert result == {"baseline_s": 10.0, "ours_s": 2.0, "ratio": 10.0, "ratio_range": [2.0, 15.0]}


def test_both_steps_train_alike():
    pairs = training.same_training()
    assert all(ours == pytest.approx(theirs, rel=1e-3) for ours, theirs in pairs)


def test_convolutions_of_a_network_are_all_found():
    step = training.Step("unet", 2, 32, batch=2)
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "convolve",
                      lambda module, image, first: calls.append((module, first)))
        training.convolutions(step, None)

    kinds = torch.nn.Conv2d | torch.nn.ConvTranspose2d
    modules = [module for module in step.network.modules() if isinstance(module, kinds)]
    assert {id(module) for module, _ in calls} == set(map(id, modules))
    assert len(calls) == 3 * len(modules)
    assert calls[0] == (step.network.down[0][0], True) and not calls[-1][1]
    assert not any(module._forward_hooks for module in modules)


def test_every_loss_is_timed_beside_the_gdl(capsys):
    labels = (torch.rand(8, 256, 256) < 0.01).long()
    found = losses.every_loss(labels, torch.stack([labels == 0, labels == 1], 1), rounds=1)
    assert set(found) == {*REGIONAL_LOSSES, "boundary"} and found["gdl"]["times_gdl"] == 1
    assert all(result["seconds"] > 0 and result["times_gdl"] > 0 for result in found.values())
    assert capsys.readouterr().out.count("times the GDL") == len(found)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_memory_of_a_program_is_what_it_asked_for(tmp_path):
    (tmp_path / "eater.py").write_text(
        "import time\nblock = bytearray(b'x' * 300 * 2**20)\ntime.sleep(1)\n")
    peak, spent = growth.measure([tmp_path / "eater.py"])
    assert 0.29 < peak < 0.7 and spent >= 1


def test_the_error_of_a_program_that_is_measured_is_shown(tmp_path):
    (tmp_path / "broken.py").write_text("raise SystemExit('no such thing')\n")
    with pytest.raises(SystemExit, match="broken.py ended with status 1\nno such thing"):
        growth.measure([tmp_path / "broken.py"])


def test_the_recorded_command_names_no_folder_of_the_machine():
    words = ["metrics", "--folder", "/here", "--rounds", "3", "--out", "/there"]
    assert common.command(words) == "python -m benchmarks metrics --rounds 3"


def test_maps_and_losses_are_compared_where_monais_are_the_same():
    labels = boundary.lesions((2, 24, 24))
    assert labels[0].any() and not labels[1].any()
    one_hot = torch.stack([labels == 0, labels == 1], 1).float()
    found = boundary.maps(labels, one_hot, "2x24x24", 1, 5)
    found |= boundary.losses(labels, one_hot, torch.randn(2, 2, 24, 24, requires_grad=True), "", 1)
    assert set(found) == {"maps", "maps_official", "loss", "loss_with_maps", "hausdorff"}


def test_surface_scores_of_medpy_and_monai_are_ours():
    pair = [mask[..., :20, :20, :8] for mask in metrics.masks("lesions", (40, 40, 8))]
    pair[0][2:5, 3:7, 2:4] = pair[1][3:6, 3:8, 2:5] = True
    ours = surface_scores(*pair, metrics.SPACING, surfaces.TOLERANCE)
    for theirs in (surfaces.of_medpy(*pair), surfaces.of_monai(*pair)):
        assert theirs == pytest.approx({name: ours[name] for name in theirs}, rel=1e-5)
