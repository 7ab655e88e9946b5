"""The names of a table's rows: what each says, how it is labelled, where it stands."""

import re

import pytest

from losses_regional import REGIONAL_LOSSES
from scoring import rows
from training import check_rows, options


@pytest.mark.parametrize("name, loss, schedule, cap", [
    ("gdl", "gdl", None, None),
    ("dice+ce+boundary", "dice+ce+boundary", None, None),
    ("gdl+boundary-alpha0.5", "gdl+boundary", "constant:0.5", None),
    ("gdl+boundary-alpha0", "gdl+boundary", "constant:0", None),
    ("gdl+boundary-rebalance0.02", "gdl+boundary", "rebalance:0.02", None),
    ("gdl+boundary-rebalance", "gdl+boundary", "rebalance", None),
    ("ce+boundary-increase0.1", "ce+boundary", "increase:0.1", None),
    ("gdl+boundary-switch50", "gdl+boundary", "switch:50", None),
    ("gdl+boundary-switch50-floor0.5", "gdl+boundary", "switch:50:0.5", None),
    ("gdl+boundary-rebalance0.005-floor0.5-warm50", "gdl+boundary", "rebalance:0.005:0.5:50", None),
    ("gdl+boundary-warm50-increase-cap1", "gdl+boundary", "increase:0.01:0.01:50", 1.0),
    ("gdl-cap1", "gdl", None, 1.0),
    ("gdl+boundary-alpha.5-cap0.5", "gdl+boundary", "constant:.5", 0.5)])
def test_a_row_says_loss_schedule_and_cap(name, loss, schedule, cap):
    row = rows.parse(name)
    assert (row.loss, row.schedule, row.gdl_max_weight) == (loss, schedule, cap)


@pytest.mark.parametrize("name, loss, flags", [
    ("dice+ce-batch", "dice+ce", ["batch"]), ("gdl-cap1", "gdl", []),
    ("gdl+boundary-batch-alpha0.5", "gdl+boundary", ["batch"]),
    ("gdl-lesionslices-cap1-medianabsent", "gdl", ["lesionslices", "medianabsent"]),
    ("boundary-background", "boundary", ["background"])])
def test_a_row_says_its_changes_without_a_number(name, loss, flags):
    row = rows.parse(name)
    assert (row.loss, row.flags) == (loss, flags)


@pytest.mark.parametrize("name, changed", [
    ("gdl+boundary-floor0.5", {"floor": 0.5}), ("gdl+boundary-warm50", {"warm_up": 50}),
    ("gdl+boundary-batch-warm50-floor.75", {"floor": 0.75, "warm_up": 50}), ("gdl+boundary", {})])
def test_a_floor_or_a_warm_up_alone_changes_the_runs_own_schedule(name, changed):
    row = rows.parse(name)
    assert (row.schedule, row.changed) == (None, changed)


@pytest.mark.parametrize("name, label, without, schedule", [
    ("gdl+boundary-rebalance0.005-floor0.5-warm50",
     "L_GD + L_B, rebalance 0.005, floor 0.5, warm-up 50", "gdl",
     "rebalance 0.005, floor 0.5, warm-up 50"),
    ("gdl+boundary-batch-floor0.5", "L_GD + L_B, batch, floor 0.5", "gdl-batch", "floor 0.5"),
    ("dice+ce+boundary-batch", "L_Dice + L_CE + L_B, batch", "dice+ce-batch", "the schedule"),
    ("gdl+boundary-batch-increase0.1-cap1", "L_GD + L_B, batch, increase 0.1, cap 1",
     "gdl-batch-cap1", "increase 0.1"),
    ("gdl+boundary-medianabsent", "L_GD + L_B, absent: median size", "gdl-medianabsent",
     "the schedule"),
    ("rwl+boundary-lesionslices", "L_RW + L_B, lesion slices only", "rwl-lesionslices",
     "the schedule"),
    ("gdl+boundary-background-batch", "L_GD + L_B, with background, batch", "gdl-batch",
     "the schedule")])
def test_what_does_not_change_the_boundary_loss_stays_without_it(name, label, without, schedule):
    assert rows.label(name) == label and rows.without_boundary(name) == without
    assert rows.schedule_in_words(name) == schedule and rows.is_variant(name)


@pytest.mark.parametrize("name, words", [
    ("gdl+boundary", "GDL + boundary"), ("gdl-batch", "GDL, batch"),
    ("dice-batch", "L_Dice, batch"), ("gdl+boundary-alpha0.5", "GDL + boundary, alpha 0.5")])
def test_a_legend_spells_the_papers_losses_out(name, words):
    assert rows.in_words(name) == words


@pytest.mark.parametrize("name, of_a_study", [
    ("gdl", False), ("gdl-batch", False), ("gdl+boundary-batch", False), ("gdl-cap1", True),
    ("gdl+boundary-alpha0.5", True), ("gdl+boundary-warm50", True), ("gdl-lesionslices", False)])
def test_alpha_and_the_cap_are_studied_and_other_changes_make_another_loss(name, of_a_study):
    assert rows.is_of_a_study(name) == of_a_study


@pytest.mark.parametrize("name", [
    "gdl-batch1", "gdl-batch-batch", "gdl-batches", "gdl-lesionslices-lesionslices",
    "gdl-alpha", "gdl-cap", "gdl+boundary-switch", "gdl-beta1", "gdl-", "gdl-alpha0.5.5",
    "gdl-alpha.", "gdl-cap1-cap2", "gdl+boundary-alpha0.5-switch3",
    "gdl+boundary-floor", "gdl+boundary-warm", "gdl+boundary-warm5.5", "gdl+boundary-floor1.5",
    "gdl+boundary-floor0.5-floor0.5", "gdl+boundary-warm1-warm2", "gdl+boundary-alpha0.5-floor0.3",
    "gdl+boundary-switch50-warm5", "gdl+boundary-switch5.5", "gdl+boundary-alpha2"])
def test_a_name_that_is_no_row_is_refused(name):
    with pytest.raises(ValueError, match="row: expected"):
        rows.parse(name)
    assert rows.changes_of(name) == () and rows.plain(name) == name


def test_the_check_of_rows_names_the_first_that_is_none(capsys):
    assert check_rows.main(["gdl", "gdl+boundary-alpha0.5"]) == 0
    assert capsys.readouterr() == ("", "")
    assert check_rows.main(["gdl", "gdl-capp1", "gdl-x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: row: expected a loss, or ") and error.endswith("'gdl-capp1'\n")


def test_the_check_of_rows_takes_schedule_and_protocol_into_account(capsys):
    row = ["gdl+boundary-floor0.5", "--with"]
    assert check_rows.main([*row, "--schedule", "increase"]) == 0
    for more in (["--protocol", "code2018"], ["--schedule", "constant:0.5"]):
        assert check_rows.main([*row, *more]) == 2
        assert "schedule: expected one with a floor" in capsys.readouterr().err


@pytest.mark.parametrize("words, error", [
    (["--seeds", "0", "x"], "argument --seed: invalid int value: 'x'"),
    (["--seeds", "-1"], "--seed: from 0 to 9.2"),
    (["--with", "--epochs", "abc"], "argument --epochs: invalid int value: 'abc'"),
    (["--with", "--width", "0"], "--width: from 1 to 4096, found 0"),
    (["--with", "--patch", "3"], "argument --patch: expected 3 arguments"),
    (["--with", "--network", "unet3d", "--dims", "2"], "--network: expected one of --dims 2")])
def test_the_check_of_rows_refuses_seeds_and_options_in_a_line(capsys, words, error):
    assert check_rows.main(["gdl", *words]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {error}") and told.count("\n") == 1


def test_a_row_says_which_loss_it_is_of_where_it_says_one_that_main_knows():
    for name in REGIONAL_LOSSES:
        assert rows.loss_of(name) == name
        assert rows.loss_of(f"{name}+boundary-alpha0.5") == f"{name}+boundary"
    assert rows.loss_of("boundary-background") == "boundary"
    assert rows.loss_of("mine") is None and rows.loss_of("gdl-mine") is None


@pytest.mark.parametrize("name, words", [
    ("dise+ce", "loss: expected one of gdl, "), ("gdl-background", "none for gdl, which has no"),
    ("ce-batch", "loss-options: expected"), ("rwl-medianabsent", "loss-options: expected"),
    ("focal-cap1", "gdl-max-weight: expected a loss with gdl"),
    ("boundary-cap1", "gdl-max-weight: expected a loss with gdl"),
    ("gdl-alpha0.5", "a regional loss and the boundary loss beside a change of alpha, as in gdl+"),
    ("gdl-warm50", "row: expected a regional"), ("boundary-alpha0.5", "row: expected a regional"),
    ("gdl+boundary-floor2", "row: expected"), ("gdl+boundary-alpha0.5-warm5", "row: expected")])
def test_the_check_of_rows_refuses_what_main_would(name, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        check_rows.check(name)


def test_the_check_of_rows_lets_through_what_main_takes():
    for name in ("boundary-background", "gdl+boundary-medianabsent-lesionslices-background",
                 "dice+ce+boundary-batch", "gdl-cap1", "gdl+boundary-rebalance0.005-floor0.5"):
        check_rows.check(name)


def test_main_takes_a_row_for_loss_schedule_and_cap():
    def parsed(*words):
        return options.parse(["--data", "d", "--out", "o", *words], "")
    args = parsed("--row", "gdl+boundary-alpha0.5-cap1", "--schedule", "rebalance:0.1")
    assert (args.loss, args.schedule, args.gdl_max_weight) == ("gdl+boundary", "constant:0.5", 1.0)
    args = parsed("--row", "gdl", "--schedule", "rebalance:0.1", "--gdl-max-weight", "2")
    assert (args.loss, args.schedule, args.gdl_max_weight) == ("gdl", "rebalance:0.1", 2.0)
    assert args.loss_options is None
    args = parsed("--row", "dice+boundary-batch", "--loss-options", "smooth=1", "batch=0")
    assert (args.loss, args.loss_options) == ("dice+boundary", {"smooth": 1.0, "batch": 1.0})
    assert parsed().loss == "gdl+boundary" and not hasattr(parsed(), "row")

    args = parsed("--row", "gdl+boundary-medianabsent-lesionslices-background",
                  "--boundary-classes", "1")
    assert args.loss_options == {"absent_size": "median"}
    assert args.lesion_slices and args.boundary_classes == ["all"]
    args = parsed("--loss-options", "absent_size=90,4", "--boundary-classes", "0", "2")
    assert args.loss_options == {"absent_size": [90.0, 4.0]}
    assert not args.lesion_slices and args.boundary_classes == [0, 2]


@pytest.mark.parametrize("words, expected", [
    ((), "rebalance"),
    (("--epochs", "50"), "rebalance:0.04"),
    (("--epochs", "50", "--schedule", "rebalance"), "rebalance"),  # the paper's, as it was asked
    (("--epochs", "50", "--protocol", "code2018"), "code2018"),
    (("--epochs", "400", "--row", "gdl+boundary-floor0.5"), "rebalance:0.005:0.5"),
    (("--row", "gdl+boundary-warm50", "--schedule", "increase:0.1"), "increase:0.1:0.01:50"),
    (("--row", "gdl+boundary-floor0.5", "--schedule", "switch:9"), "switch:9:0.5"),
    (("--epochs", "50", "--row", "gdl+boundary-increase0.1-warm2"), "increase:0.1:0.01:2")])
def test_the_schedule_of_a_command(words, expected):
    args = options.parse(["--data", "d", "--out", "o", *words], "")
    assert args.schedule == expected and not hasattr(args, "of_schedule")
    assert args.step_is_default == ("0.1" not in expected and not {"--schedule", "--protocol"}
                                    & set(words))


@pytest.mark.parametrize("words", [
    ("--row", "gdl+boundary-floor0.5", "--schedule", "constant:0.5"),
    ("--row", "gdl+boundary-warm5", "--protocol", "code2018"),
    ("--boundary-classes", "all", "1"), ("--boundary-classes", "both"),
    ("--row", "gdl-lesionslices", "--dims", "3"), ("--loss-options", "absent_size=mean"),
    ("--row", "ce-medianabsent"), ("--row", "gsl-batch"),
    ("--row", "gdl-x"), ("--row", "gdl", "--loss", "ce"), ("--row", "ce-batch")])
def test_main_refuses_a_row_that_says_something_else(words, capsys):
    with pytest.raises(SystemExit) as stop:
        options.parse(["--data", "d", "--out", "o", *words], "")
    assert stop.value.code == 2 and "expected" in capsys.readouterr().err


def test_the_papers_rows_come_first_and_have_their_own_styles():
    names = ["ce", "gdl", "gdl+boundary-alpha0.5", "boundary", "gdl+boundary"]
    assert sorted(names, key=rows.order) == [
        "boundary", "gdl", "gdl+boundary", "ce", "gdl+boundary-alpha0.5"]
    assert [rows.style(name, names) for name in names] == [3, 0, 4, 2, 1]
