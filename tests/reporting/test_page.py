"""The page: what it says, what it never does, and the numbers behind its drawings."""

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

import metrics
from made_runs import made_set
from reporting.page import build, curves, scores
from reporting.page.run_times import stages
from reporting.page.svg import Axes, band, labelled, line
from run_folders import (
    DSC,
    REPORTED,
    SCAN,
    page_of,
    write_data,
    write_run,
    write_scores,
    write_set,
)
from scoring import runs, scan_scores
from scoring.cases import validation_cases
from utils import UserError, write_csv


def load(folder):
    return runs.load_sets([folder], None)[0]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The page of two sets: a phantom that has finished, and own data without predictions yet.

    Its pictures are stand-ins.
    """
    root = tmp_path_factory.mktemp("page")
    write_set(root, "wmh")
    data = write_data(root / "data" / "own_50%", source="own", name="own_50%")
    write_run(root / "results" / "own" / "gdl" / "seed0", data, "gdl", 0, [0.2, 0.3],
              finished=False)
    drawn = [{"name": name, "png": png, "title": "Title", "caption": "Caption.",
              "alt": "what a picture would show"}
             for name, png in (("figure1", b"\x89PNG"), ("figure2", b"\x89PNG"),
                               ("figure3", b""), ("figure4", b"\x89PNG"))]
    return page_of(root / "results" / "wmh", root / "results" / "own", drawn=drawn)


# The page as a whole ------------------------------------------------------------------------------

def test_names_from_files_are_escaped_in_the_page(tmp_path):
    folder = write_set(tmp_path, source="own", name="<script>alert(1)</script>",
                       losses={"gdl": [[0.6] * 8]})
    shutil.copytree(folder / "gdl", folder / "<script>alert(2)<!--")
    page = page_of(folder)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page and "\\u003cscript\\u003ealert(2)" in page
    elements = re.findall("<script[^>]*>", page)
    # the curves' numbers, and our script
    assert elements == ['<script type="application/json">', "<script>"]


def test_claims_appear_on_the_page_once_they_are_measured(tmp_path):
    folder = write_set(tmp_path, source="own")
    assert build.claims_of(load(folder)) == {}
    claim = {"claim": "it <works>", "verdict": "supported", "statistic": "+0.1 [0.0, 0.2]"}
    (folder / "claims.json").write_text(json.dumps({"set": "x", "claims": {"C1": claim}}))
    page = page_of(folder)
    assert 'href="#claims"' in page and "it &lt;works&gt;" in page and "+0.1 [0.0, 0.2]" in page


def write_test_set(folder, source, best_epoch=5):
    """test_set.csv of one run on five scans of Utrecht."""
    row = {"set": "x", "source": source, "loss": "gdl", "seed": 0, "run": "seed0",
           "best_epoch": best_epoch, "scanner": "Utrecht", "reference_ml": 1, "dice": 0.625,
           "hd95_challenge": "", "volume_difference": 12.5, "lesion_recall": 0.5,
           "lesion_f1": 0.25, "mask": "m", "reference": "r"}
    write_csv(folder / "test_set.csv", [{**row, "subject": str(k)} for k in range(5)])


@pytest.mark.parametrize("source, is_beside", [("challenge", True), ("phantom", False)])
def test_the_test_set_has_a_section_with_reported_numbers_beside_the_challenges_own(
        tmp_path, source, is_beside):
    folder = write_set(tmp_path, source=source, losses={"gdl": [[0.6] * 8]})
    write_test_set(folder, source)
    page = page_of(folder)
    assert 'href="#test"' in page and ">0.625<" in page and ">12.5<" in page
    assert ("pgs" in page) == ("60 training scans" in page) == is_beside
    assert ("not run here (`make wmh TEST=yes`)" in page) != is_beside


def test_without_test_scores_the_page_of_the_challenges_scans_says_how_to_get_them(tmp_path):
    assert "<code>make wmh TEST=yes</code>" in page_of(write_set(tmp_path / "a",
                                                                 source="challenge"))
    assert 'id="test"' not in page_of(write_set(tmp_path / "b", source="own"))


@pytest.mark.parametrize("best_epoch, stale", [(1, False), (5, True)])
def test_test_scores_of_other_models_than_the_pages_are_called_so(tmp_path, best_epoch, stale):
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8]})  # the first of equal epochs is best
    write_test_set(folder, "phantom", best_epoch)
    assert ("Scored with other models" in page_of(folder)) == stale


@pytest.mark.parametrize("runs_then, stale", [
    ({"gdl/seed0": 8}, True),
    ({f"{loss}/seed{seed}": 8 for loss in DSC for seed in (0, 1)}, False)])
def test_claims_of_other_runs_than_the_page_shows_are_called_so(tmp_path, runs_then, stale):
    folder = write_set(tmp_path)
    claim = {"claim": "c", "verdict": "supported", "statistic": "s"}
    written = {"set": "x", "runs": runs_then, "claims": {"C1": claim}}
    (folder / "claims.json").write_text(json.dumps(written))
    assert ("measured on other runs" in page_of(folder)) == stale


def c9(curves):
    """claims.json with these curves, as text."""
    claim = {"claim": "x", "verdict": "y", "statistic": "z", "curves": curves}
    return json.dumps({"claims": {"C9": claim}})


@pytest.mark.parametrize("text", [
    "[]", "{}", '{"claims": {"C1": {"claim": "x"}}}', '{"claims": 3}',
    '{"claims": {"C1": {"claim": "x", "verdict": ["y"], "statistic": "z"}}}',
    c9([1]), c9({"a": 3}),
    c9({"disc": {"sizes": [32, 64], "errors": [0.1], "order": 1}}),
    c9({"disc": {"sizes": [32], "errors": ["a"], "order": 1}})])
def test_a_claims_file_of_another_shape_is_refused(tmp_path, text):
    folder = write_set(tmp_path)
    (folder / "claims.json").write_text(text)
    with pytest.raises(UserError, match=r"claims\.json"):
        build.claims_of(load(folder))


def test_damaged_predictions_are_named(tmp_path):
    folder = write_set(tmp_path)
    (folder / "gdl" / "seed0" / "predictions.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(UserError, match="predictions.npz"):
        scores.scan_scores(load(folder))


def test_scans_are_scored_and_the_worst_comes_first(tmp_path):
    first, second = scores.scan_scores(load(write_set(tmp_path)))
    # 4x4 pixels of 1x1x3 mm
    assert (first["subject"], first["volume"]) == ("a", pytest.approx(16 * 3 / 1000))
    assert first["dsc_3d"]["gdl"] == pytest.approx(0.5)  # a 4x4 square moved by 2: overlap 8 of 16
    assert first["dsc_3d"]["gdl+boundary"] == pytest.approx(0.75)
    assert first["dsc_3d"]["difference"] == pytest.approx(0.25)
    # the 2x2 lesion is missed altogether
    assert second["dsc_3d"]["gdl"] == pytest.approx(2 * (6 * 8) / (2 * 68))
    # 12 of the 24 surface distances, 1 mm a row
    assert first["hd95"]["gdl"] == 2 and first["hd95"]["gdl+boundary"] == 1


def test_page_is_well_formed_and_its_links_lead_somewhere(full):
    tags = Tags()
    tags.feed(full)
    assert tags.open == [] and len(tags.ids) == len(set(tags.ids))
    assert set(re.findall(r'href="#([^"]+)"', full)) <= set(tags.ids)


def test_page_is_self_contained(full):
    assert not re.search(r"(src|href|url|@import)\s*[=(]?\s*[\"']?(https?:)?//", full)
    links = re.findall(r'(?:src|href)="([^"#]*)', full)
    assert {uri[:10] for uri in links if uri} == {"data:image"}


def test_every_picture_has_an_alternative_text(full):
    described = re.findall(r'<img [^>]*alt="[^"]{20}', full)
    assert full.count("<img") == len(described) == 3  # not Figure 3


def test_page_forbids_the_network_and_any_script_but_its_own(full):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', full)[1]
    assert "default-src 'none'; img-src data:;" in policy and "script-src 'sha256-" in policy
    script = full.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r"\son\w+=", full)  # no handlers in attributes, which it would block


class Tags(HTMLParser):
    """Checks that every element is closed in order and that ids are unique."""

    void = {"meta", "link", "img", "br", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for key, value in attrs if key == "id"]
        self.open += [tag] if tag not in self.void else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_claims_are_counted_and_told_by_a_sign_too(tmp_path):
    folder = write_set(tmp_path, source="own")
    write_claims(folder, "supported", "supported", "refuted", "undecided", "not measured")
    page = page_of(folder)
    assert "2 supported, 1 refuted, 1 undecided, 1 not measured" in page
    assert page.count("✓ supported") == 2 and page.count("✗ refuted") == 1


def write_claims(folder, *verdicts, **options):
    """claims.json with a claim of each verdict."""
    claims = {f"C{at}": {"claim": f"claim {at}", "verdict": verdict, "statistic": "+0.1 [0, 0.2]",
                         **options} for at, verdict in enumerate(verdicts, 1)}
    (folder / "claims.json").write_text(json.dumps({"claims": claims}))


@pytest.mark.parametrize("excludes_0, colour", [(True, "better"), (False, "")])
def test_a_verdict_has_a_colour_only_where_its_interval_leaves_out_0(tmp_path, excludes_0, colour):
    folder = write_set(tmp_path, source="own")
    write_claims(folder, "supported", excludes_0=excludes_0)
    assert f'<span class="chip {colour}">✓ supported</span>' in page_of(folder)


def test_an_undecided_claim_has_no_colour_whatever_its_interval(tmp_path):
    folder = write_set(tmp_path, source="own")
    write_claims(folder, "undecided", "not measured", excludes_0=True)
    page = page_of(folder)
    assert page.count('<span class="chip ">') == 2


def test_a_phantoms_page_says_what_ran_and_judges_no_claim(tmp_path):
    folder = write_set(tmp_path)
    write_claims(folder, "supported", "refuted", excludes_0=True)  # of an earlier version
    page = page_of(folder)
    assert ("6 runs of boundary alone, GDL, GDL + boundary, 48 epochs in all, "
            "trained in 1 min 12 s.") in page
    assert "No claim is judged on a phantom" in page and "+0.1 [0, 0.2]" in page
    assert 'href="#what-ran"' in page and 'id="claims"' not in page and 'class="chip' not in page
    assert not re.search(r"supported|refuted|undecided|too few scans", page)


def test_nothing_but_a_verdict_is_coloured_better_or_worse(tmp_path):
    page = page_of(write_set(tmp_path, source="own"))  # two scans decide nothing
    assert "▲" in page and not re.search(r'<(td|span)[^>]*class="[^"]*\b(better|worse)\b', page)


def test_deviations_from_reported_numbers_are_told_by_a_sign_and_words(tmp_path):
    page = page_of(write_set(tmp_path, source="challenge"))
    # GDL: 0.550 (0.071) against 0.727 (0.006); GDL + boundary: 0.800 (0.141) against 0.748 (0.005)
    assert '<small class="worse">▼ -0.177, worse</small>' in page
    assert '<small class="within">+0.052, within</small>' in page
    # legacy HD: 2.000 (0.000) against 1.045 (0.014), less is better
    assert '<small class="worse">▼ +0.955, worse</small>' in page


@pytest.mark.parametrize("source", ["phantom", "own"])
def test_other_data_have_no_deviation_from_reported_numbers(tmp_path, source):
    assert "<small class=" not in page_of(write_set(tmp_path, source=source))


def test_unfinished_runs_have_no_deviation_from_reported_numbers(tmp_path):
    data = write_data(tmp_path / "data", source="challenge")
    write_run(tmp_path / "r" / "gdl" / "seed0", data, "gdl", 0, [0.2, 0.3], finished=False)
    page = page_of(tmp_path / "r")
    assert "0.300 (–) *" in page and "seed0 (unfinished, epoch 2)" in page
    assert "<small class=" not in page


def test_settings_stand_apart_from_the_environment(tmp_path):
    settings, environment, varying = build.settings_of(load(write_set(tmp_path)))
    assert settings["width"] == 8 and "device" not in settings
    assert environment == {"device": "cpu", "version of numpy": "2"} and varying == {}


def test_a_setting_that_older_runs_lack_does_not_differ_from_its_default(tmp_path):
    folder = write_set(tmp_path)
    for path in folder.glob("*/seed*/config.json"):
        more = {"augment": False} if path.parent.name == "seed0" else {}
        threads = 1 if path.parent.name == "seed0" else 2
        path.write_text(json.dumps({**json.loads(path.read_text()), "threads": threads, **more}))
    settings, environment, varying = build.settings_of(load(folder))
    assert "augment" not in varying and settings["augment"] is False
    assert varying["threads"]["gdl/seed0"] == "1" and varying["threads"]["gdl/seed1"] == "2"


def test_folds_are_counted_as_runs_and_their_epochs_in_the_time_of_one(tmp_path):
    data, place = write_data(tmp_path / "data"), tmp_path / "r" / "gdl"
    (data / "split.csv").write_text("subject,subset\na,fold0\nb,fold1\n")
    for fold in range(2):
        write_run(place / f"seed0-fold{fold}", data, "gdl", 0, [0.5] * 4, epochs=4, fold=fold,
                  folds=2)
        scan_scores.append(place / f"seed0-fold{fold}", [
            {**SCAN, "epoch": epoch, "subject": "ab"[fold]} for epoch in range(5)])
    trained = next(row for row in stages(load(tmp_path / "r")) if row["stage"] == "training")
    assert trained["what"].startswith("2 runs, 8 epochs") and trained["seconds"] == 24
    assert '<td class="number">3.0</td>' in page_of(tmp_path / "r")  # 24 s of eight epochs


# Figure 3 -----------------------------------------------------------------------------------------

def test_data_become_svg_coordinates():
    axes = Axes(left=10, top=20, width=100, height=50, x=(0, 4), y=(0, 1))
    assert axes.at(0, 0) == (10, 70) and axes.at(4, 1) == (110, 20) and axes.at(1, 0.5) == (35, 45)
    # a gap, and a lone point
    assert line(axes, [0, 1, 2, 3, 4], [0, 0.5, np.nan, 1, np.nan]) == "M10 70L35 45M85 20h.1"
    assert band(axes, [0, 4], [0, 0], [1, 0.5]) == "M10 20L110 45L110 70L10 70Z"


@pytest.mark.parametrize("low, high, texts", [
    (0, 1, ["0.0", "0.5", "1.0"]), (0, 0.001, ["0.0000", "0.0005", "0.0010"]),
    (0.92, 0.96, ["0.92", "0.94", "0.96"]), (0, 150, ["0", "50", "100", "150"])])
def test_ticks_have_the_decimals_they_need(low, high, texts):
    assert [text for _, text in labelled(low, high, 3)] == texts


def test_curves_hold_every_seed_and_the_mean_of_the_finished_ones(tmp_path):
    data = write_data(tmp_path / "data")
    for seed, dsc in enumerate(([0.2, 0.4], [0.6, 0.4], [0.9])):
        write_run(tmp_path / "r" / "gdl" / f"seed{seed}", data, "gdl", seed, dsc,
                  finished=seed < 2, epochs=2)
    drawn = curves.curves_view(load(tmp_path / "r"), REPORTED)
    panel = panel_of(drawn, "val_dice")
    assert drawn["epochs"] == [1, 2]
    assert panel["values"] == [[0.2, 0.4], [0.6, 0.4], [0.9, None]]
    assert [curve["finished"] for curve in panel["lines"]] == [True, True, False]

    low, high = panel["span"]  # 0.2 to 0.9 and a twentieth more each way
    assert (low, high) == (pytest.approx(0.165), pytest.approx(0.935))
    axes = Axes(**curves.BOX, x=(1, 2), y=(low, high))
    assert panel["means"][0]["path"] == line(axes, [1, 2], [0.4, 0.4])


def panel_of(drawn, key):
    return next(panel for panel in drawn["panels"] if panel["key"] == key)


def test_what_nothing_scores_is_a_line_across_the_papers_measures_alone(tmp_path):
    drawn = curves.curves_view(load(write_set(tmp_path)), REPORTED)
    lines = {panel["key"]: panel["nothing"] for panel in drawn["panels"]}
    panel = panel_of(drawn, "val_dice")
    axes = Axes(**curves.BOX, x=(1, 8), y=panel["span"])
    assert lines.pop("val_dice") == axes.at(0, 0.5)[1]  # two of four slices are empty
    assert lines.pop("val_hd_legacy") and set(lines.values()) == {None}


def test_the_axis_of_false_lesions_is_set_by_the_second_half(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8]})
    write_scores(folder / "gdl" / "seed0", lambda epoch: {"lesions_false": 2000 >> epoch})
    drawn = curves.curves_view(load(folder), REPORTED)
    # 2000 >> 5 = 62 in the fifth epoch of 8, 2000 >> 8 = 7 in the last
    assert panel_of(drawn, "val_false_lesions")["span"] == (pytest.approx(7 - 0.05 * 55),
                                                            pytest.approx(62 + 0.05 * 55))


def test_an_axis_of_scores_that_are_as_good_as_0_goes_to_a_hundredth(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[1e-8, 2e-8] * 4]})
    drawn = curves.curves_view(load(folder), REPORTED)
    ticks = panel_of(drawn, "val_dice_lesion")["ticks"]["y"]
    texts = [text for _, text in ticks]
    assert texts[0] in ("0.000", "0.0000") and "e-" not in str(texts)


def test_distances_have_gaps_and_an_axis_that_the_pair_sets(tmp_path):
    folder = write_set(tmp_path)
    path = folder / "gdl" / "seed0" / "metrics.csv"
    path.write_text(path.read_text().replace(",0.01,", ",0,", 1))
    far = folder / "boundary" / "seed1" / "metrics.csv"  # boundary alone before it collapses
    text = far.read_text().replace(",10,5,2,", ",99,99,99,", 1)
    far.write_text(text.replace(",0,1.5", ",0.01,1.5", 1))

    drawn = curves.curves_view(load(folder), REPORTED)["panels"]
    panels = {panel["key"]: panel for panel in drawn}
    hd95 = panels["val_hd95"]
    assert hd95["values"][:3] == [[None] * 8, [99] + [None] * 7, [None] + [5] * 7]
    assert hd95["means"][1]["path"].startswith("M91.7")  # from the second epoch
    assert hd95["span"] == (4.5, 5.5)
    assert panels["val_dice"]["values"][2][0] == 0.1
    assert panels["alpha"]["empty"]  # not in these files


def test_the_papers_marks_stand_beside_its_own_data_only(tmp_path):
    ours = curves.curves_view(load(write_set(tmp_path / "a", source="challenge")), REPORTED)
    panel = panel_of(ours, "val_dice")
    theirs = [mark["value"] for mark in panel["marks"]]
    assert theirs == [0.735, 0.625, 0.754, 0.739] and panel["span"][1] > 0.754
    phantom = curves.curves_view(load(write_set(tmp_path / "b")), REPORTED)
    assert not any(panel["marks"] for panel in phantom["panels"])


# Scan by scan -------------------------------------------------------------------------------------

def test_paired_differences_are_means_over_scans_with_their_direction(tmp_path):
    results = load(write_set(tmp_path, source="own"))
    rows = {row["name"]: row for row in scores.paired_differences(results)}
    dsc, hd95 = rows["3-D DSC"], rows["HD95 (mm)"]
    assert dsc["gdl"] == pytest.approx((0.5 + 48 / 68) / 2)
    assert dsc["both"] == pytest.approx((0.75 + 58 / 68) / 2)
    assert dsc["difference"] == pytest.approx(dsc["both"] - dsc["gdl"])
    assert (dsc["better"], dsc["worse"]) == (2, 0)
    assert (dsc["low"], dsc["verdict"]) == (None, "too few scans")
    assert dsc["epochs"] == "best epoch"
    assert (hd95["better"], hd95["worse"]) == (2, 0)  # smaller distances are better


@pytest.mark.parametrize("low, high, less_is_better, expected", [
    (0.1, 0.2, False, "better"), (-0.2, -0.1, False, "worse"),
    (-0.2, -0.1, True, "better"), (0.1, 0.2, True, "worse"),
    (-0.1, 0.1, False, "undecided"), (0.0, 0.1, False, "undecided")])
def test_an_interval_decides_where_it_leaves_out_zero(low, high, less_is_better, expected):
    assert scores.verdict({"low": low, "high": high}, less_is_better) == expected


def test_the_last_epochs_stand_before_the_best_one_and_one_seed_decides_nothing(tmp_path):
    results = made_set(tmp_path, gdl=[0.4, 0.41], gdl_boundary=[0.6, 0.61])
    found = scores.paired_differences(results)
    assert [row["epochs"] for row in found] == ["last 3 epochs"] * 5 + ["best epoch"] * 5
    assert [row["verdict"] for row in found] == ["better"] * 10

    results.losses["gdl"].pop()
    one = scores.paired_differences(made_set(tmp_path, **{
        "gdl": results.losses["gdl"], "gdl_boundary": results.losses["gdl+boundary"]}))
    assert {row["verdict"] for row in one} == {"one seed"} and one[0]["low"] is None


def test_a_phantoms_differences_have_no_verdict(tmp_path):
    results = made_set(tmp_path, source="phantom", gdl=[0.4, 0.41], gdl_boundary=[0.6, 0.61])
    rows = scores.paired_differences(results)
    assert {row["verdict"] for row in rows} == {""} and rows[0]["low"] > 0


def test_scatter_points_stand_where_their_scores_are(tmp_path):
    scans = scores.scan_scores(load(write_set(tmp_path)))
    plot = scores.scatter(scans, "dsc_3d")
    first = plot["points"][0]
    assert (first["x"], first["y"], first["how"]) == (196, 87, "better")  # 0.5 and 0.75 of 300
    assert first["title"] == \
        "a: 3-D DSC 0.500 with GDL, 0.750 with GDL + boundary (+0.250, better)"
    assert {point["how"] for point in scores.scatter(scans, "hd95")["points"]} == {"better"}


def test_without_a_finished_pair_there_is_nothing_to_compare(tmp_path):
    results = load(write_set(tmp_path, losses={"gdl": [[0.6] * 8]}))
    scans = scores.scan_scores(results)
    assert scores.paired_differences(results) == [] and scores.scatter(scans, "hd95") is None
    assert scans[0]["subject"] == "a" and scans[0]["dsc_3d"]["difference"] is None


def write_pair(tmp_path):
    """One run each of GDL and GDL + boundary on own data, which are taken away."""
    folder = write_set(tmp_path, source="own",
                       losses={"gdl": [[0.6] * 8], "gdl+boundary": [[0.6] * 8]})
    shutil.rmtree(tmp_path / "data" / "wmh" / "subjects")
    return folder


def test_without_the_data_scans_are_listed_by_scores_csv_and_evaluation_csv(tmp_path):
    folder = write_pair(tmp_path)
    for loss, better in (("gdl", "a"), ("gdl+boundary", "b")):
        run = folder / loss / "seed0"
        scan_scores.append(run, [
            {**SCAN, "epoch": epoch, "subject": name, "dsc_3d": 0.7 if name == better else 0.3}
            for epoch in range(1, 9) for name in ("a", "b")])
        write_csv(run / "evaluation.csv", [
            {"subject": name, "label": 1, "reference_ml": volume}
            for name, volume in (("a", 4.5), ("b", 0.25))])

    found = [(row["subject"], row["volume"], row["dsc_3d"]["gdl"], row["dsc_3d"]["gdl+boundary"])
             for row in scores.scan_scores(load(folder))]
    assert found == [("a", 4.5, 0.7, 0.3), ("b", 0.25, 0.3, 0.7)]  # the worse one first
    page = page_of(folder)
    assert page.count('<path class="better"') == 1 and page.count('<path class="worse"') == 1
    assert 'href="#scan-' not in page and "Each point links" not in page


def test_without_data_and_scores_of_scans_that_is_said_and_nothing_listed(tmp_path):
    folder = write_pair(tmp_path)
    assert scores.scan_scores(load(folder)) == []
    page = page_of(folder)
    assert "These runs kept no scores of single scans." in page and "worst first</th>" not in page
    changed = page[page.index('id="summary"'):page.index("</table>", page.index('id="summary"'))]
    assert ">verdict<" not in changed and "change [95 %]" in changed  # nothing was judged


def test_headings_leave_out_no_level(tmp_path):
    levels = list(map(int, re.findall(r"<h([1-6])[ >]", page_of(write_set(tmp_path)))))
    assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))


def test_recall_by_volume_counts_each_lesion_once(tmp_path):
    found = scores.by_volume(load(write_set(tmp_path)))
    bins = {row["name"]: (row["lesions"], row["recall"]) for row in found["bins"]}
    assert bins == {  # 2x2, 4x4 and 8x8 pixels of 1x1x3 mm
        "0.01 to 0.03 ml": (1, {"boundary": 0, "gdl": 0, "gdl+boundary": 1}),
        "0.03 to 0.1 ml": (1, {"boundary": 0, "gdl": 1, "gdl+boundary": 1}),
        "0.1 to 0.3 ml": (1, {"boundary": 0, "gdl": 1, "gdl+boundary": 1}),
        "all": (3, {"boundary": 0, "gdl": pytest.approx(2 / 3), "gdl+boundary": 1})}
    # GDL's 2x2 square touches nothing, in one of two scans
    assert found["false"] == {"boundary": 0, "gdl": 0.5, "gdl+boundary": 0}


def test_recall_by_volume_agrees_with_the_metric(tmp_path):
    results = load(write_set(tmp_path))
    truth = np.load(results.data / "subjects" / "b" / "labels.npy") > 0
    mask = validation_cases(results)[1].predicted_lesion(results.losses["gdl"][0])
    sizes, touched = metrics.lesion_sizes(truth, mask)
    assert sorted(sizes) == [4, 64]
    assert metrics.lesion_recall(mask, truth) == touched.mean() == 0.5


@pytest.mark.parametrize("index, name", [
    (0, "below 0.01 ml"), (4, "0.3 to 1 ml"), (9, "100 ml and more")])
def test_bins_are_named_by_their_edges(index, name):
    assert scores.bin_name(index) == name and np.digitize(0.5, scores.EDGES) == 4


# What explains the method ------------------------------------------------------------------------

def test_the_ablation_names_rows_as_elsewhere_and_runs_that_end_empty(tmp_path):
    folder = write_set(tmp_path)
    line = {"loss": "L_GD + L_B", "map": "m", "seeds": 2, "metric": "dsc",
            "statistic": "best_epoch", "mean": 0.5}
    write_csv(folder / "ablation.csv", [
        {**line, "runs_without_foreground": 2, "difference": 0.25, "low": None, "high": None},
        {**line, "map": "n", "runs_without_foreground": 0, "difference": 0.25, "low": -0.5,
         "high": 1}])
    text = page_of(folder).partition('id="ablation"')[2].partition("</section>")[0]
    assert text.count("<i>L</i><sub>GD</sub> + <i>L</i><sub>B</sub></th>") == 2
    assert "2; 2 empty</td>" in text and text.count(" empty</td>") == 1
    assert ">+0.250</td>" in text and ">+0.250 [-0.500, +1.000]</td>" in text
