"""C6 to C8: constant alphas, other networks and 3-D, on made-up runs and on run folders."""

import json
import shutil
from pathlib import Path

import pytest

from made_runs import made_run, made_set
from run_folders import write_run, write_set
from scoring.runs import load_set
from studies import variants
from utils import UserError, read_json, write_json

# C6 -----------------------------------------------------------------------------------------------


def sweep_set(folder, moving, constants, increase=None, empty=(), **settings):
    """The schedule, "increase" and constant alphas, two seeds each, of these DSC.

    Args:
        constants: alpha -> DSC.
        empty: rows that predict nothing.
        settings: of the constants.
    """
    rows = {"gdl_boundary": (moving, {}),
            **{f"gdl_boundary-alpha{alpha}": (dsc, {"schedule": f"constant:{alpha}", **settings})
               for alpha, dsc in constants.items()}}
    if increase is not None:
        rows["gdl_boundary-increase"] = increase, {"schedule": "increase"}
    return made_set(folder, **{
        row: [made_run("gdl+boundary", dsc + (-0.001, 0.001)[seed], seed=seed,
                       empty_from=0 if row in empty else None, **options) for seed in range(2)]
        for row, (dsc, options) in rows.items()})


@pytest.mark.parametrize("moving, verdict, coloured", [
    (0.80, "supported", True), (0.75, "undecided", False), (0.70, "refuted", True)])
def test_c6_compares_the_schedule_with_the_best_constant(tmp_path, moving, verdict, coloured):
    result = variants.c6(sweep_set(tmp_path, moving, {0.5: 0.75, 0.9: 0.6}))
    assert (result["verdict"], result["excludes_0"]) == (verdict, coloured)
    assert "they spread by 0.150" in result["statistic"]
    assert result["against_best"]["difference"] == pytest.approx(moving - 0.75)


def test_c6_calls_what_is_not_worse_by_the_margin_similar(tmp_path):
    rows = {"gdl_boundary": "rebalance", "gdl_boundary-alpha0.5": "constant:0.5",
            "gdl_boundary-alpha0.9": "constant:0.9"}
    results = made_set(tmp_path, **{
        row: [made_run("gdl+boundary", 0.7, seed=seed, schedule=schedule) for seed in range(2)]
        for row, schedule in rows.items()})
    result = variants.c6(results)
    assert (result["verdict"], result["excludes_0"]) == ("supported", False)


def test_c6_states_its_margin_and_the_seeds_that_could_meet_it(tmp_path):
    result = variants.c6(sweep_set(tmp_path, 0.75, {0.5: 0.75, 0.9: 0.6}))
    # seeds of both rows differ by 0.002 (std 0.00141), together by 0.002: t(1) x 0.002 / sqrt(2) =
    # 12.7 x 0.00141 = 0.018, t(2) x 0.002 / sqrt(3) = 4.3 x 0.00115 = 0.005
    assert result["margin"] == 0.01 and result["seeds_needed"] == 3
    assert "similar = not worse by 0.01, about 3 seeds of each could meet it" in result["statistic"]


def test_c6_counts_a_row_that_predicts_nothing_as_0_and_names_its_runs(tmp_path):
    results = sweep_set(tmp_path, 0.7, {0.1: 0.9, 0.5: 0.65, 0.9: 0.6},
                        empty=["gdl_boundary-alpha0.1"])
    result = variants.c6(results)
    assert result["best"] == "gdl+boundary-alpha0.5" and result["verdict"] == "supported"
    assert result["means"]["gdl+boundary-alpha0.1"] == 0
    assert "gdl+boundary-alpha0.1/seed0, gdl+boundary-alpha0.1/seed1" in result["statistic"]


def test_c6_is_decided_by_the_schedule_and_names_the_other_strategies(tmp_path):
    result = variants.c6(sweep_set(tmp_path, 0.7, {0.5: 0.75, 0.9: 0.6}, increase=0.9))
    assert result["verdict"] == "refuted" and result["schedule"] == "gdl+boundary"
    expected = ("0.700 with the schedule; 0.900 with increase; "
                "0.750 with alpha 0.5, 0.600 with alpha 0.9")
    assert expected in result["statistic"]


@pytest.mark.parametrize("change", [{"gdl_max_weight": 1}, {"loss_options": {"batch": 1.0}}])
def test_c6_leaves_runs_with_another_gdl_out(tmp_path, change):
    results = sweep_set(tmp_path, 0.7, {0.5: 0.7, 0.9: 0.9}, **change)
    assert variants.c6(results)["verdict"] == "not measured"


def test_c6_of_one_seed_is_not_measured(tmp_path):
    results = sweep_set(tmp_path, 0.7, {0.5: 0.7, 0.9: 0.9})
    results.losses["gdl+boundary"].pop()
    result = variants.c6(results)
    assert result["verdict"] == "not measured" and "found 2 and 1" in result["statistic"]


# C7 -----------------------------------------------------------------------------------------------

def write_beside(root, name, data="wmh", dsc=0.5, **settings):
    """Two seeds of GDL and GDL + boundary in results/<name>, on data of the set "wmh"."""
    for loss in ("gdl", "gdl+boundary"):
        for seed in range(2):
            write_run(root / "results" / name / loss / f"seed{seed}", root / "data" / data, loss,
                      seed, [dsc] * 8, **settings)
    return root / "results" / name


@pytest.fixture
def plane(tmp_path, monkeypatch):
    """The folder of a set of slices; two scans are enough for a verdict."""
    for module in ("studies.verdicts", "scoring.intervals"):
        monkeypatch.setattr(f"{module}.FEWEST_SCANS", 2)
    return write_set(tmp_path, losses={"gdl": [[0.6] * 8] * 2})


def test_c7_finds_other_networks_by_their_data_whatever_their_folders_name(plane, tmp_path):
    write_beside(tmp_path, "wmh-mm", network="enet", data_fingerprint="0" * 64)  # other data
    write_beside(tmp_path, "wmh-same")                                           # no other network
    write_beside(tmp_path, "wmh-short", network="enet", epochs=9)
    assert variants.c7(load_set(plane))["verdict"] == "not measured"

    write_beside(tmp_path, "trial", network="unet2018")
    result = variants.c7(load_set(plane))
    assert result["verdict"] == "supported"
    assert result["statistic"].startswith("unet2018 of width 8, 24x24 (trial): best epoch: slice")


@pytest.mark.parametrize("start, name", [(".", "results/{}"), ("results", "{}"),
                                         ("results/{}", "."), ("results/{}/gdl", "..")])
def test_what_is_beside_a_set_has_a_path_like_its_own(plane, tmp_path, monkeypatch, start, name):
    """claims.json may be published, and then names no folder of the machine but where it must."""
    other = write_beside(tmp_path, "trial", network="enet")
    shutil.rmtree(other / "gdl")
    monkeypatch.chdir(tmp_path / start.format(plane.name))
    results = load_set(Path(name.format(plane.name)))
    statistic = variants.c7(results)["statistic"]
    assert "enet of width 8" in statistic and "LOSSES='gdl gdl+boundary'" in statistic
    assert (str(tmp_path) in statistic) == (name in (".", ".."))


def test_c7_tells_every_network_and_needs_them_all(plane, tmp_path):
    write_beside(tmp_path, "a", network="enet")
    worse = write_beside(tmp_path, "b", network="unet2018")
    for seed in (0, 1):  # what GDL predicts here, GDL + boundary does there
        swap(worse / "gdl" / f"seed{seed}", worse / "gdl+boundary" / f"seed{seed}")
    result = variants.c7(load_set(plane))
    assert result["verdict"] == "refuted" and result["excludes_0"]
    assert [entry["verdict"] for entry in result["sets"]] == ["supported", "refuted"]
    assert "enet of width 8" in result["statistic"] and "unet2018 of width 8" in result["statistic"]


def swap(first, second):
    """Exchange the predictions of two runs."""
    paths = [folder / "predictions.npz" for folder in (first, second)]
    kept = paths[0].read_bytes()
    paths[0].write_bytes(paths[1].read_bytes())
    paths[1].write_bytes(kept)


def test_c7_passes_over_a_neighbour_that_cannot_be_read(plane, tmp_path, capsys):
    broken = write_beside(tmp_path, "broken", network="enet")
    (broken / "gdl" / "seed0" / "metrics.csv").write_text("epoch\n")
    assert variants.c7(load_set(plane))["verdict"] == "not measured"
    assert "broken" in capsys.readouterr().out


def test_c7_refuses_runs_of_the_same_network(plane):
    results = load_set(plane)
    with pytest.raises(UserError, match="another network than unet"):
        variants.c7(results, results.folder)


def test_c7_of_3d_runs_does_not_ask_for_a_network_that_does_not_exist(tmp_path):
    result = variants.c7(made_set(tmp_path, gdl=[made_run(patch=[8, 16, 16])]))
    assert result["verdict"] == "not measured" and "only one 3-D network" in result["statistic"]


# C8 -----------------------------------------------------------------------------------------------

def judged_3d(folder, without, with_term):
    def runs(loss, scores):
        return [made_run(loss, score, seed=seed, network="unet3d", patch=[8, 32, 32])
                for seed, score in enumerate(scores)]

    return variants.c8(made_set(folder, gdl=runs("gdl", without),
                                gdl_boundary=runs("gdl+boundary", with_term)))


@pytest.mark.parametrize("with_term, verdict, coloured", [
    ([0.7, 0.7], "supported", True), ([0.5, 0.5], "supported", False),
    ([0.495, 0.495], "supported", True), ([0.4, 0.4], "refuted", True),
    ([0.3, 0.7], "undecided", False)])
def test_c8_is_not_worse_by_the_margin_in_3d_dsc(tmp_path, with_term, verdict, coloured):
    result = judged_3d(tmp_path, [0.5, 0.5], with_term)
    assert (result["verdict"], result["excludes_0"]) == (verdict, coloured)
    assert result["margin"] == 0.01 and result["decided_by"] == ["dsc_3d"]


def test_c8_says_how_many_seeds_it_would_take(tmp_path):
    # seeds of one row differ by 0.02: as in test_verdicts
    result = judged_3d(tmp_path, [0.5, 0.5], [0.5, 0.52])
    assert result["verdict"] == "undecided" and result["seeds_needed"] == 11
    assert "similar = not worse by 0.01, about 11 seeds of each" in result["statistic"]


def to_3d(folder):
    """Make the runs of a folder ones in 3-D."""
    for path in folder.glob("*/seed*/config.json"):
        write_json(path, {**read_json(path), "network": "unet3d", "patch": [8, 32, 32]})


def test_c8_finds_whole_3d_runs_by_their_scans(plane, tmp_path):
    assert variants.c8(load_set(plane))["statistic"].startswith(
        "run: make custom NAME=wmh-dims3 DIMS=3")

    # the same scans, converted in another way, so with another fingerprint
    shutil.copytree(tmp_path / "data" / "wmh", tmp_path / "data" / "volumes")
    path = tmp_path / "data" / "volumes" / "fingerprint.json"
    write_json(path, {**read_json(path), "sha256": "3" * 64})
    to_3d(write_beside(tmp_path, "whatever", data="volumes", data_fingerprint="3" * 64))
    result = variants.c8(load_set(plane))
    assert result["verdict"] == "supported"
    assert result["statistic"].startswith("unet3d of width 8, 8x32x32 (whatever): ")

    # other scans
    about = tmp_path / "data" / "volumes" / "split.csv"
    about.write_text("subject,subset\na,val\nb,val\nu,train\n")
    assert variants.c8(load_set(plane))["verdict"] == "not measured"


def test_c8_says_what_3d_runs_lack(plane, tmp_path):
    shutil.rmtree(write_beside(tmp_path, "volumes") / "gdl" / "seed1")
    to_3d(tmp_path / "results" / "volumes")
    result = variants.c8(load_set(plane))
    assert result["verdict"] == "not measured"
    assert "needs at least 2 seeds of gdl and of gdl+boundary, found 1 and 2" in result["statistic"]
    json.dumps(result, allow_nan=False)
