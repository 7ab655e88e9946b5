"""Alpha strategies, losses and networks, from the name to the run, the table, C6 and its figure."""

import json

import numpy as np
import pytest
import torch
from test_losses_regional import maps_of
from test_makefile import clone, make  # noqa: F401

import main
from conftest import assert_same_run, refuses, rows, run, train
from dataloader import Batch, Slices, one_hot
from losses_regional import REGIONAL_LOSSES, build_loss
from networks import NETWORKS, build
from reporting import formats, study_figures
from run_folders import write_run, write_set
from scoring import runs
from scoring.rows import label
from training import checkpoint
from training.best_model import load_model
from training.run_folder import COLUMNS
from training.trainer import Trainer

# Schedules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule, alphas, weights", [
    ("increase:0.3", ["1.0", "0.7", "0.4"], [(1, 0), (1, 0.3), (1, 0.6)]),
    ("switch:2:0.4", ["1.0", "1.0", "0.4"], [(1, 0), (1, 0), (0.4, 0.6)])])
def test_alpha_and_the_loss_of_a_run_follow_the_strategy(data, tmp_path, schedule, alphas, weights):
    assert train(data, tmp_path / "run", "--schedule", schedule, epochs=3).returncode == 0
    found = rows(tmp_path / "run")
    assert [row["alpha"] for row in found] == alphas
    for row, (regional, boundary) in zip(found, weights, strict=True):
        expected = regional * float(row["train_gdl"]) + boundary * float(row["train_boundary"])
        assert float(row["train_loss"]) == pytest.approx(expected, rel=1e-5)


# Losses, networks ---------------------------------------------------------------------------------

@pytest.mark.parametrize("network", [name for name, kind in NETWORKS.items() if kind.dims == 2])
@pytest.mark.parametrize("loss", REGIONAL_LOSSES)
def test_a_step_with_every_loss_and_network(loss, network):
    torch.manual_seed(0)
    options = {"weights": [1.0, 9.0]} if loss == "wce" else None
    joint = build_loss(f"{loss}+boundary", 2, None, options)
    trainer = Trainer(build(network, 1, 2, 4), joint, torch.device("cpu"))

    labels = torch.zeros(2, 16, 16, dtype=torch.uint8)
    labels[0, 4:9, 5:8] = 1
    maps = maps_of(joint, one_hot(labels, 2).float())
    batch = Batch(torch.rand(2, 1, 16, 16), labels, maps["distance"])

    head = trainer.network.head
    before = {key: value.clone() for key, value in head.named_parameters()}
    batch = trainer.begin_step(batch)
    logits = trainer.forward(batch.images)
    value, parts = trainer.loss(logits.softmax(1), one_hot(batch.labels, 2), batch.distance,
                                (0.5, 0.5), logits, maps["maps"])
    bad = trainer.end_step(value)
    assert not bad and parts.keys() == {loss.replace("+", "_"), "boundary"}
    assert all(not torch.equal(before[key], value) for key, value in head.named_parameters())


def test_wce_enet_and_switch_train_resume_and_predict(data, raw, tmp_path):
    options = ("--network", "enet", "--width", 8, "--schedule", "switch:1")
    assert train(data, tmp_path / "whole", *options, loss="wce+boundary", epochs=2).returncode == 0
    for epochs in (1, 2):
        train(data, tmp_path / "parts", *options, loss="wce+boundary", epochs=epochs)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")  # spatial dropout too

    counts = np.bincount(Slices(data, "train").labels().ravel(), minlength=2)
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["loss_options"]["weights"] == pytest.approx(list(counts.sum() / (2 * counts)))

    best = tmp_path / "whole" / "best.pt"
    network, model = load_model(best, torch.device("cpu"))
    assert model.build == ["enet", 2, 2, 8] and type(network) is NETWORKS["enet"]

    result = run("predict.py", "--checkpoint", best, "--out", tmp_path / "masks", raw / "s0")
    assert result.returncode == 0 and (tmp_path / "masks" / "s0.nii.gz").exists()


@pytest.mark.parametrize("saved_on, taken_on, expected", [
    ("cuda", "cuda", [(7, torch.device("cuda"))]), ("cpu", "cuda", []), ("cuda", "cpu", []),
    ("cpu", "cpu", [])])
def test_random_numbers_of_a_cuda_device_are_kept(monkeypatch, saved_on, taken_on, expected):
    state, taken = torch.get_rng_state(), []
    kept_on_gpu = torch.tensor([7], dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: kept_on_gpu)
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: taken.append((state.item(), device)))

    kept = checkpoint.random_state(torch.device(saved_on))
    torch.rand(3)
    checkpoint.set_random_state(kept, torch.device(taken_on))
    assert taken == expected and torch.equal(torch.get_rng_state(), state)


def test_another_loss_has_its_own_column(data, tmp_path):
    result = train(data, tmp_path / "run", loss="dice+ce+boundary", epochs=1)
    row = rows(tmp_path / "run")[0]
    assert list(row) == ["train_dice_ce" if name == "train_gdl" else name for name in COLUMNS]
    assert float(row["train_dice_ce"]) > 0
    assert row["train_loss"] == row["train_dice_ce"]  # alpha is 1 in the first epoch
    assert "DSC " in result.stdout


def test_a_row_with_sums_over_the_batch_trains_otherwise_and_says_so(data, tmp_path):
    for row in ("gdl+boundary", "gdl+boundary-batch"):
        assert train(data, tmp_path / row, "--row", row, epochs=1).returncode == 0
    config = json.loads((tmp_path / "gdl+boundary-batch" / "config.json").read_text())
    assert config["loss"] == "gdl+boundary" and config["loss_options"] == {"batch": 1.0}

    values = [float(rows(tmp_path / row)[0]["train_gdl"])
              for row in ("gdl+boundary", "gdl+boundary-batch")]
    assert 0 < values[1] < values[0]  # empty slices no longer count 1 each


def test_parameters_and_operations_are_printed_at_the_start(data, tmp_path):
    result = train(data, tmp_path / "run", epochs=1)
    expected = "starts, unet of width 2 (30,736 parameters, 0.00155 GFLOP per slice forward), "
    assert expected in result.stdout


def test_weights_of_another_number_of_classes_are_refused(data, tmp_path):
    result = train(data, tmp_path / "run", "--loss-options", "weights=1,2,3", loss="ce")
    refuses(result, "--loss-options weights: expected 2 of them, one per class, found 3")
    assert not (tmp_path / "run").exists()


def test_an_option_that_makes_no_sense_is_refused(data, tmp_path):
    result = train(data, tmp_path / "run", "--loss-options", "gamma=-1", loss="focal")
    refuses(result, "--loss-options gamma", "found -1.0")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss, options, word", [
    ("focal", ["--loss-options", "gamma"], "NAME=NUMBER"),
    ("focal", ["--loss-options", "gamma=a"], "NAME=NUMBER"),
    ("dice", ["--loss-options", "gamma=1"], "expected batch, smooth, squared for dice"),
    ("gdl", ["--loss-options", "softmax=1"], "expected absent_size, batch for gdl"),
    ("dice", ["--gdl-max-weight", 1], "a loss with gdl"),
    ("gdl", ["--loss-options", "batch=nan"], "batch: expected 0 or 1, found nan"),
    ("dice+focal", [], "expected one of gdl, ce, wce, focal, dice, dice+ce, tversky, "
                       "focal_tversky, hausdorff, rwl, gsl, cc_dice_ce, boundary")])
def test_options_that_do_not_fit_the_loss_end_with_status_2(data, tmp_path, loss, options, word):
    result = train(data, tmp_path / "run", *options, loss=loss)
    assert result.returncode == 2
    assert word in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_options_of_the_loss_define_the_run(data, tmp_path):
    train(data, tmp_path / "run", "--loss-options", "gamma=1", loss="focal", epochs=1)
    result = train(data, tmp_path / "run", loss="focal", epochs=2)
    refuses(result, "loss_options None", "loss_options {'gamma': 1.0}")

    result = train(data, tmp_path / "run", "--loss-options", "gamma=1", loss="focal", epochs=2)
    assert result.returncode == 0 and len(rows(tmp_path / "run")) == 2


def test_a_run_from_before_there_were_options_continues(data, tmp_path):
    train(data, tmp_path / "run", loss="gdl", epochs=1)

    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    del config["loss_options"]
    path.write_text(json.dumps(config))

    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    del state["settings"]["loss_options"]
    torch.save(state, tmp_path / "run" / "last.pt")

    result = train(data, tmp_path / "run", loss="gdl", epochs=2)
    assert result.returncode == 0 and len(rows(tmp_path / "run")) == 2, result.stderr


def test_help_names_every_loss_schedule_and_network(capsys):
    with pytest.raises(SystemExit):
        main.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    schedules = "rebalance[:STEP]", "increase[:STEP]", "constant:ALPHA", "switch:EPOCHS[:ALPHA]"
    for word in (*REGIONAL_LOSSES, *NETWORKS, *schedules):
        assert word in text


# Make, tables -------------------------------------------------------------------------------------

@pytest.mark.parametrize("row", ["gdl+boundary-increase0.02", "dice+ce+boundary", "gdl-cap1"])
def test_make_hands_a_row_to_the_training_run_as_it_is(clone, row):  # noqa: F811
    run_folder = f"results/x/{row}/seed0"
    plan = make("-n", f"{run_folder}/summary.json", "NAME=x", f"LOSSES={row}", "SEEDS=0",
                folder=clone).stdout.replace("\\\n", " ")
    line = " ".join(next(line for line in plan.splitlines() if "main.py" in line).split())
    assert f"main.py --data data/x --row {row} --seed 0 --out {run_folder} " in line
    assert line.endswith("--protocol paper --device auto")


@pytest.mark.parametrize("given, strategies", [
    ([], "increase gdl+boundary-switch50"),
    (["EPOCHS=26", "SCHEDULE=rebalance:0.077"], "increase0.077 gdl+boundary-switch6"),
    (["EPOCHS=26"], "increase0.0769231 gdl+boundary-switch6"),
    (["EPOCHS=26", "PROTOCOL=code2018"], "increase gdl+boundary-switch6"),
    (["EPOCHS=400", "SCHEDULE=rebalance:0.005:0.5:50"],
     "increase0.005-floor0.5-warm50 gdl+boundary-switch100-floor0.5"),
    (["STRATEGIES=switch9"], "switch9")])
def test_the_sweep_trains_other_strategies_too(clone, given, strategies):  # noqa: F811
    plan = make("-n", "sweep", "NAME=x", "ALPHAS=0.5", *given, folder=clone).stdout
    assert f'LOSSES="gdl+boundary gdl+boundary-alpha0.5 gdl+boundary-{strategies}"' in plan


@pytest.mark.parametrize("row, text", [
    ("gdl+boundary-increase", "L_GD + L_B, increase"),
    ("gdl+boundary-switch50", "L_GD + L_B, switch 50"),
    ("focal_tversky+boundary", "L_FTversky + L_B"),
    ("dice+ce", "L_Dice + L_CE"), ("hausdorff", "L_HDT"), ("wce", "L_WCE"), ("my_own", "my_own")])
def test_rows_have_names_in_the_table(row, text):
    assert label(row) == text


def test_the_labels_of_the_losses_are_sound_latex():
    expected = r"$\mathcal{L}_{FTversky}$ + $\mathcal{L}_{B}$, switch 5"
    assert formats.tex_label("focal_tversky+boundary-switch5") == expected


# Figure ---------------------------------------------------------------------------------------

def test_the_figure_draws_every_strategy(tmp_path):
    folder = write_set(tmp_path, losses={"gdl+boundary": [[0.7] * 8]})
    for name, schedule, score in [
            ("alpha0.25", "constant:0.25", 0.5), ("alpha0.5", "constant:0.5", 0.65),
            ("increase", "increase", 0.72), ("switch2", "switch:2", 0.6)]:
        write_run(folder / f"gdl+boundary-{name}" / "seed0", tmp_path / "data" / "wmh",
                  "gdl+boundary", 0, [score] * 8, schedule=schedule)

    figure, _, _, alt = study_figures.sweep(runs.load_sets([folder], None))
    expected = ("best epoch: schedule 0.700, increase 0.720, switch 2 0.600, "
                "alpha 0.25 0.500, alpha 0.5 0.650")
    assert expected in alt
    lines = {line.get_label(): line.get_ydata()[0] for line in figure.axes[0].lines}
    labelled = {label: y for label, y in lines.items() if not label.startswith("_")}
    assert labelled == {"the schedule": 0.7, "increase": 0.72, "switch 2": 0.6,
                        "constant alpha": 0.5}
