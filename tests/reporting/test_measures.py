"""The tables of what an empty prediction cannot win: which measures, and beside nothing."""

import shutil

import numpy as np
import pytest

from reporting import measures
from reporting.page import build
from reporting.page.front import finding
from run_folders import SCAN, write_data, write_run, write_scores, write_set
from scoring import runs, scan_scores
from scoring.nothing import emptied, scores_of_nothing
from scoring.scores import score_scan
from utils import UserError, write_csv

# in the order of docs/protocol.md
ORDER = ["clean", "dsc_lesion", "dsc_3d", "lesion_recall", "lesion_precision", "lesion_f1",
         "recall_small", "recall_medium", "recall_large", "false_lesions", "false_distance",
         "hd95_mm", "empty", "dsc", "hd_legacy"]


def load(folder):
    return runs.load_sets([folder], None)[0]


def cells(results, row, table=0):
    """{heading: text} of a row of the table of the last epochs (0) or of the best one (1)."""
    found = measures.measures_tables(results)[table]
    texts = next(line["cells"] for line in found["rows"] if line["label"] == row)
    return dict(zip(found["headings"], texts, strict=True))


@pytest.fixture
def scored(tmp_path):
    """One run of GDL; of 8 epochs the second is its best, and the last two count."""
    folder = write_set(tmp_path, losses={"gdl": [[0.1, 0.9, *[0.5] * 6]]})
    write_scores(folder / "gdl" / "seed0", lambda epoch: {
        "small_found": int(epoch == 2), "lesions_false": epoch,
        "false_distance": None if epoch == 7 else float(epoch)})
    return load(folder)


def test_the_measures_are_those_of_the_protocol_and_the_papers_own_come_last():
    assert [measure.key for measure in measures.MEASURES] == ORDER


def test_recall_by_volume_and_false_lesions_come_from_scores_csv(scored):
    last, best = cells(scored, "L_GD"), cells(scored, "L_GD", 1)
    assert (last["recall below 0.05 ml"], best["recall below 0.05 ml"]) == ("0.000 (–)",
                                                                           "1.000 (–)")
    assert last["recall, 0.05 to 0.5 ml"] == "0.667 (–)" and last["recall from 0.5 ml"] == "–"
    assert (last["false lesions per scan"], best["false lesions per scan"]) == ("7.5 (–)",
                                                                               "2.0 (–)")
    distance = "distance of false lesions (mm)"
    assert (last[distance], best[distance]) == ("8.0 (–)", "2.0 (–)")


def test_predicting_nothing_scores_what_its_masks_score(scored):
    nothing = cells(scored, "predicts nothing")
    assert nothing["slice DSC"] == "0.500"  # two of four slices are empty
    # rows of 4 and of 8 lesion pixels are 2 and 8 ** 0.5 from a row without any; two slices are 0
    assert nothing["legacy HD"] == f"{(2 + 8 ** 0.5) / 4:.3f}"
    assert nothing["empty slices left clean"] == nothing["lesion precision"] == "1.000"
    for title in ("DSC, lesion slices", "3-D DSC", "lesion recall", "lesion F1",
                  "recall from 0.5 ml"):
        assert nothing[title] in ("0.000", "–"), title
    assert nothing["distance of false lesions (mm)"] == "–"


def test_without_the_data_an_empty_epoch_tells_what_nothing_scores(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8]})
    about = tmp_path / "data" / "wmh"
    shutil.rmtree(about / "subjects")
    assert scores_of_nothing(load(folder)) == {"val_dice": 0.5}  # the fingerprint's

    run = folder / "gdl" / "seed0"
    write_scores(run, lambda epoch: {"foreground": 0.0, "hd_legacy": 1.5} if epoch == 3 else {})
    assert scores_of_nothing(load(folder))["val_hd_legacy"] == 1.5


def test_without_such_an_epoch_the_counts_tell_all_but_the_distances(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8]})
    shutil.rmtree(tmp_path / "data" / "wmh" / "subjects")
    write_scores(folder / "gdl" / "seed0")
    found = scores_of_nothing(load(folder))
    assert found == {
        "val_dice": 0.5, "val_dice_3d": 0, "val_dice_lesion": 0, "val_foreground": 0,
        "val_clean": 1, "val_lesion_recall": 0, "val_lesion_precision": 1, "val_lesion_f1": 0,
        "val_recall_small": 0, "val_recall_medium": 0, "val_recall_large": None,
        "val_false_lesions": 0, "val_false_distance": None}


def test_the_counts_of_any_masks_tell_what_empty_ones_score():
    truth = np.zeros((4, 12, 12), np.uint8)
    truth[1, 2:5, 2:5] = truth[2, 8, 8] = 1
    masks = np.zeros_like(truth)
    masks[0, 6, 6] = masks[1, 2:5, 3:9] = 1
    rows, empty = (scan_scores.rows_of(0, [("a", score_scan(mask, truth, (3.0, 1.0, 1.0), 2))],
                                       ("background", "lesion")) for mask in (masks, masks * 0))
    distances = ("hd", "hd95", "hd_legacy")
    for counted, scored in zip(map(emptied, rows), empty, strict=True):
        assert all(np.isnan(counted.pop(name)) for name in distances)
        assert counted == pytest.approx(
            {name: scored[name] for name in scored if name not in distances}, abs=1e-8)


def test_runs_that_end_empty_are_counted_in_every_mean_and_named(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8, [0.5] * 8], "boundary": [[0.5] * 8]})
    path = folder / "gdl" / "seed1" / "metrics.csv"
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, last.replace(",10,5,2,", ",9,45,2,").replace(
        ",0.01,", ",0,")]) + "\n")
    results = load(folder)
    last, best = (cells(results, "L_GD", table) for table in (0, 1))
    assert (last["runs that predict nothing"], best["runs that predict nothing"]) == ("1 of 2",
                                                                                     "0 of 2")
    assert last["HD95 (mm)"] == "15.0 (14.1)"  # 5 and the mean of 5 and 45
    assert cells(results, "L_B", 1)["HD95 (mm)"] == "5.0 (–)"
    said = measures.empty_runs(results)
    assert said.startswith("2 of 3 runs predict no foreground at all: boundary/seed0 (best epoch), "
                           "gdl/seed1 (last epoch).") and said in measures.markdown([results])


def test_runs_whose_masks_hit_no_lesion_over_the_last_epochs_are_named(tmp_path):
    """Over the last two of eight: masks beside every lesion, one hit, empty masks, no lesions."""
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8] * 4})
    misses = {"foreground": 0.1, "lesions": 3, "lesions_found": 0}
    for seed, changed in enumerate([{}, {"lesions_found": 1}, {"foreground": 0}, {"lesions": 0}]):
        kept = (6, 7) if "lesions_found" in changed else (6,)  # the hit is in the last epoch
        write_scores(folder / "gdl" / f"seed{seed}", lambda epoch, changed=changed, kept=kept: (
            {} if epoch < 7 else misses if epoch in kept else {**misses, **changed}))
    assert measures.empty_runs(load(folder)) == (
        "1 of 4 runs predict foreground over the last 2 epochs, but none of it on a lesion: "
        "gdl/seed0. They count in every mean.")


def test_measures_csv_has_every_measure_of_every_row_and_of_nothing(scored):
    rows = measures.tidy_rows([scored])
    assert [(row["loss"], row["measure"], row["statistic"]) for row in rows] == [
        (loss, key, statistic) for loss in ("gdl", "predicts nothing") for key in ORDER
        for statistic in ("last", "best")]
    found = {(row["loss"], row["measure"]): row["mean"] for row in rows
             if row["statistic"] == "last"}
    assert found["gdl", "false_lesions"] == 7.5 and found["gdl", "empty"] == 0
    assert found["predicts nothing", "dsc"] == pytest.approx(0.5)


# The page's summary -------------------------------------------------------------------------------

def write_pair(tmp_path, changes, source="own", of_scan=lambda name: {}):
    """GDL and GDL + boundary on as many scans as there are changes of 3-D DSC between them."""
    folder, names = write_set(tmp_path, losses={}, source=source), [
        f"s{k}" for k in range(len(changes))]
    data = tmp_path / "data" / "wmh"
    (data / "split.csv").write_text("subject,subset\n" + "".join(f"{n},val\n" for n in names))
    shutil.rmtree(data / "subjects")
    for loss, gain in (("gdl", 0), ("gdl+boundary", 1)):
        for seed in (0, 1):
            run = write_run(folder / loss / f"seed{seed}", data, loss, seed, [0.5] * 8,
                            finished=False)
            (run / "summary.json").write_text('{"finished": true, "epochs": 8}')
            scan_scores.append(run, [
                {**SCAN, "epoch": epoch, "subject": name, "dsc_3d": 0.3 + gain * change,
                 **of_scan(name)}
                for epoch in range(1, 9) for name, change in zip(names, changes, strict=True)])
    return load(folder)


def summary_of(results, name="3-D DSC"):
    return next(line for line in build.headlines(results) if line["name"] == name)


def test_means_and_interval_are_of_the_same_runs(tmp_path):
    """One of the runs of GDL + boundary kept no scores; metrics.csv alone has its 3-D DSC."""
    results = write_pair(tmp_path, (0.1, 0.2, 0.1, 0.2, 0.1))
    left_out = results.folder / "gdl+boundary" / "seed0"
    (left_out / "scores.csv").unlink()
    found = summary_of(load(results.folder))["last"]
    assert found["texts"][:2] == ["0.300", "0.440"]
    assert found["texts"][2].startswith("+0.140")
    assert "0.300 to 0.440 (+0.140" in finding(load(results.folder), {})


@pytest.mark.parametrize("changes, verdict", [
    ((0.1, 0.2, 0.1, 0.2, 0.1), "better"), ((-0.1, -0.2, -0.1, -0.2, -0.1), "worse"),
    ((0.3, -0.3, 0.2, -0.1, 0.0), "undecided"), ((0.1, 0.2, 0.1), "too few scans")])
def test_a_verdict_stands_only_where_the_interval_leaves_out_0(tmp_path, changes, verdict):
    line = summary_of(write_pair(tmp_path, changes))
    for statistic in ("last", "best"):
        assert line[statistic]["verdict"] == verdict
        assert ("[" in line[statistic]["texts"][2]) == (len(changes) >= 5)


def test_scans_without_a_value_do_not_count_for_its_verdict(tmp_path):
    """Of five scans one has no lesion below 0.05 ml."""
    results = write_pair(tmp_path, (0.1,) * 5, of_scan=lambda name: {
        "small_lesions": int(name != "s0")})
    line = summary_of(results, "recall below 0.05 ml")["last"]
    assert line["verdict"] == "too few scans" and "[" not in line["texts"][2]
    assert summary_of(results, "recall, 0.05 to 0.5 ml")["last"]["verdict"] == "undecided"


def test_of_a_phantom_the_summary_has_no_verdict(tmp_path):
    line = summary_of(write_pair(tmp_path, (0.1, 0.2, 0.1, 0.2, 0.1), "phantom"))
    assert line["last"]["verdict"] == "" and "[" in line["last"]["texts"][2]


def test_the_distance_of_false_lesions_has_a_change_and_no_interval(tmp_path):
    line = summary_of(write_pair(tmp_path, (0.1,) * 5), "distance of false lesions (mm)")
    assert line["last"] == {"texts": ["8.0", "8.0", "+0.0"], "verdict": ""}


def test_numbers_of_unfinished_runs_are_marked(tmp_path):
    data = write_data(tmp_path / "data")
    write_run(tmp_path / "runs" / "gdl" / "seed0", data, "gdl", 0, [0.5] * 2, finished=False)
    found = cells(load(tmp_path / "runs"), "L_GD", 1)
    assert (found["3-D DSC"], found["runs that predict nothing"]) == ("0.250 (–) *", "0 of 1 *")


def test_a_row_whose_first_run_has_no_epoch_yet_has_empty_cells(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8]})
    data = tmp_path / "data" / "wmh"
    write_run(folder / "boundary" / "seed0", data, "boundary", 0, [], finished=False)
    found = cells(load(folder), "L_B", 1)
    assert (found["runs"], found["3-D DSC"]) == ("0", "–")


def test_sets_of_one_title_are_told_apart_by_as_much_of_their_path_as_it_takes(tmp_path):
    folders = [write_set(tmp_path / name, folder="ms") for name in ("fair", "poly")]
    shutil.copytree(folders[1], tmp_path / "poly" / "results" / "other")
    folders.append(tmp_path / "poly" / "results" / "other")
    titles = [results.title.partition(" (")[2] for results in runs.load_sets(
        folders, [tmp_path / "fair" / "data" / "ms"] * 3)]
    assert titles == ["fair/results/ms)", "poly/results/ms)", "other)"]


def test_scores_of_other_classes_than_the_datas_are_refused(tmp_path):
    folder = write_set(tmp_path)
    write_scores(folder / "gdl" / "seed0", lambda epoch: {"class_name": "tumour"})
    with pytest.raises(UserError, match="scores.csv: expected rows of lesion.*found tumour"):
        load(folder)


@pytest.mark.parametrize("key", ["scans", "val_scans"])
def test_a_rater_without_its_number_of_scans_is_refused(tmp_path, key):
    folder = write_set(tmp_path)
    row = {"rater": "o2", "scans": 2, "val_scans": 2, "data_fingerprint": "f" * 64, key: ""}
    write_csv(folder / "raters.csv", [row])
    with pytest.raises(UserError, match=f"raters.csv: expected a number of {key} in line 2"):
        load(folder)
