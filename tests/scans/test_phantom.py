"""The synthetic data sets: layouts, geometry and lesions, and how a run is continued."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from conftest import run_apart
from scans.datasets import DATASETS, find_subjects
from scans.patients import known_patients
from scans.phantom import __main__, grid, isles, wmh
from scans.phantom.lesions import WMH
from utils import run_program

SMALL = ["--size", "32", "--slices", "4", "--jobs", "1"]
ISLES_NAMES = ["CT", "CT_4DPWI", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax", "OT"]


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def voxels(folder):
    """File name -> array, of every NIfTI below a folder."""
    return {name: np.asarray(nib.load(folder / name).dataobj)
            for name in files(folder) if ".nii" in name}


def best_threshold_dice(image, lesion):
    """The highest Dice of `image > t` against bool `lesion` over all thresholds t."""
    order = np.argsort(-image, kind="stable")
    hits = np.cumsum(lesion[order])
    return (2 * hits / (np.arange(1, len(order) + 1) + lesion.sum())).max()


@pytest.fixture(scope="module")
def wmh_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "wmh"
    __main__.main(["--layout", "wmh", "--out", str(out), "--subjects", "4", "--test", "0", *SMALL])
    return out


@pytest.fixture(scope="module")
def isles_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "isles"
    __main__.main(["--layout", "isles", "--out", str(out), "--subjects", "3", *SMALL])
    return out


@pytest.fixture(scope="module")
def wmh_scans():
    return [wmh.wmh_subject(seed=0, k=k, size=80, slices=12) for k in range(9)]


@pytest.fixture(scope="module")
def isles_scans():
    return [isles.isles_subject(seed=0, k=k, size=80, slices=6) for k in range(8)]


def test_wmh_files_lie_where_the_challenge_puts_them(wmh_folder):
    subjects = ["Utrecht/0", "Singapore/50", "Amsterdam/GE3T/100", "Utrecht/2"]
    scans = ["orig/FLAIR.nii.gz", "orig/T1.nii.gz", "pre/FLAIR.nii.gz", "pre/T1.nii.gz",
             "wmh.nii.gz"]
    expected = [f"training/{subject}/{name}" for subject in subjects for name in scans]
    assert files(wmh_folder) == sorted(["PHANTOM.json", *expected])


def test_isles_files_lie_where_the_challenge_puts_them(isles_folder):
    cases = isles_folder / "TRAINING"
    assert sorted(path.name for path in cases.iterdir()) == ["case_1", "case_2", "case_3"]
    for case in cases.iterdir():
        stems = sorted(path.name for path in case.iterdir())
        expected = [f"SMIR.Brain.XX.O.{name}" for name in ISLES_NAMES]
        assert [stem.rsplit(".", 1)[0] for stem in stems] == expected
        assert all(stem.rsplit(".", 1)[1].isdigit() for stem in stems)
        assert files(case) == sorted(f"{stem}/{stem}.{end}" for stem in stems
                                     for end in ("json", "nii"))


def test_subject_numbers_are_unique_over_the_wmh_sites_up_to_the_limit():
    names = [wmh.wmh_name(k)[2].name for k in range(__main__.MOST_SUBJECTS["wmh"])]
    assert all(name.isdigit() for name in names) and len(set(names)) == len(names)


def numbers(paths):
    """{site folder: [number, ...] in order}."""
    found = {}
    for path in paths:
        found.setdefault(str(path.parent), []).append(int(path.name))
    return {site: sorted(its) for site, its in found.items()}


def test_the_sixty_training_scans_have_the_challenges_own_numbers():
    assert numbers(wmh.wmh_name(k)[2] for k in range(60)) == {
        "training/Utrecht": [0, 2, 4, 6, 8, 11, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41,
                             49],
        "training/Singapore": list(range(50, 70)),
        "training/Amsterdam/GE3T": [*range(100, 111), *range(112, 117), 126, 132, 137, 144]}


def test_the_test_scans_are_the_other_110():
    found = numbers(wmh.wmh_test_name(k)[2] for k in range(110))
    assert list(found) == ["test/Utrecht", "test/Singapore", "test/Amsterdam/GE3T",
                           "test/Amsterdam/GE1T5", "test/Amsterdam/Philips_VU .PETMR_01."]
    assert [len(its) for its in found.values()] == [30, 30, 30, 10, 10]
    training = {int(wmh.wmh_name(k)[2].name) for k in range(60)}
    assert sorted([*training, *(number for its in found.values() for number in its)]) == list(
        range(170))


def test_test_scans_lie_beside_the_training_scans_and_are_no_subjects(tmp_path):
    __main__.main(["--layout", "wmh", "--out", str(tmp_path / "set"), "--subjects", "2", *SMALL])
    assert sorted(str(path.parent.relative_to(tmp_path / "set"))
                  for path in (tmp_path / "set" / "test").rglob("wmh.nii.gz")) == [
        "test/Amsterdam/GE1T5/150", "test/Amsterdam/GE3T/111",
        "test/Amsterdam/Philips_VU .PETMR_01./160", "test/Singapore/70", "test/Utrecht/1"]
    found = find_subjects(tmp_path / "set", DATASETS["wmh"])
    assert [subject.name for subject in found] == ["0", "50"]


def test_a_full_set_of_isles_is_recognised_as_94_scans_of_63_patients():
    slabs = [isles.isles_slab(k) for k in range(94)]
    assert slabs[:4] == ["Train_01_A", "Train_01_B", "Train_02_A", "Train_03_A"]
    assert len(set(slabs)) == 94 and len({slab[:8] for slab in slabs}) == 63


def test_the_json_files_of_isles_name_the_patient(isles_folder):
    subjects = find_subjects(isles_folder, DATASETS["isles"])
    assert known_patients(subjects, DATASETS["isles"]) == {
        "case_1": "Train_01", "case_2": "Train_01", "case_3": "Train_02"}


def test_the_numbers_of_isles_files_are_of_two_series(isles_folder):
    first = [int(next((isles_folder / "TRAINING" / f"case_{n}").glob("*.CT.*")).suffix[1:])
             for n in (1, 2, 3)]
    assert first == [345562, 339203, 345569]


def test_wmh_types_spacing_and_affine(wmh_folder):
    for folder in (wmh_folder / "training").rglob("pre"):
        label, flair, t1 = (nib.load(path) for path in (
            folder.parent / "wmh.nii.gz", folder / "FLAIR.nii.gz", folder / "T1.nii.gz"))
        types = [scan.get_data_dtype() for scan in (label, flair, t1)]
        assert types == [np.float32] * 3
        assert label.shape == flair.shape == t1.shape
        assert max(label.shape[:2]) == 32 and label.shape[2] == 4
        assert np.array_equal(label.affine, flair.affine)
        assert np.array_equal(label.affine, t1.affine)
        assert label.header.get_zooms()[2] * 4 == pytest.approx(grid.DEMO["slab_mm"])


def test_isles_types_and_headers_whose_only_geometry_is_the_voxel_size(isles_folder):
    for case in (isles_folder / "TRAINING").iterdir():
        scans = [nib.load(path) for path in sorted(case.rglob("*.nii"))]  # as ISLES_NAMES
        types = [scan.get_data_dtype() for scan in scans]
        assert types == [np.int32, np.float32, np.uint16, np.uint16, np.float64, np.float64,
                         np.uint8]
        assert scans[1].shape == (*scans[0].shape, 2)
        assert all(scan.shape[:3] == scans[0].shape and scan.shape[:2] == (32, 32)
                   for scan in scans)
        for header in (scan.header for scan in scans):
            assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 2)
            assert np.array_equal(header.get_sform(), np.eye(4))
            sizes = header["pixdim"][1:4]
            assert np.array_equal(sizes, scans[0].header["pixdim"][1:4])
            assert sizes[0] == sizes[1] > 6 and 5 <= sizes[2] <= 12  # 32 px where there are 256


def test_full_scale_wmh_grids_are_the_challenges():
    assert wmh.wmh_grid(wmh.SITES[1], None, None, swapped=True)[0] == (256, 232, 48)
    grids = {site.folder: wmh.wmh_grid(site, None, None) for site in wmh.SITES}
    assert grids == {"Utrecht": ((240, 240, 48), (0.958, 0.958, 3.0)),
                     "Singapore": ((232, 256, 48), (1.0, 1.0, 3.0)),
                     "Amsterdam/GE3T": ((132, 256, 83), (1.2, 0.977, 3.0))}


def test_the_first_two_scans_of_singapore_have_columns_where_the_others_have_rows(wmh_scans):
    shapes = [wmh_scans[k]["label"].shape[:2] for k in (1, 4, 7)]  # 50, 51 and 52
    assert shapes == [(80, 72), (80, 72), (72, 80)]


def test_full_scale_isles_grids_are_within_the_challenges_range():
    grids = [isles.isles_grid(np.random.default_rng(k), None, None) for k in range(200)]
    shapes, spacings = np.array([g[0] for g in grids]), np.array([g[1] for g in grids])
    assert (shapes[:, :2] == 256).all()
    assert set(shapes[:, 2].tolist()) == {2, 4, 8, 16, 22}
    assert (spacings[:, :2] >= 0.8).all() and (spacings[:, :2] <= 1.0).all()
    assert (spacings[:, 2] >= 5).all() and (spacings[:, 2] <= 12).all()


def test_orientations_are_las_oblique_las_and_ras():
    affines = [grid.scan_affine(np.random.default_rng(0), *wmh.wmh_grid(site, None, None),
                                site.axis_signs, site.tilt_degrees) for site in wmh.SITES]
    assert ["".join(nib.aff2axcodes(affine)) for affine in affines] == ["LAS", "LAS", "RAS"]
    assert [np.count_nonzero(affine[:3, :3]) for affine in affines] == [3, 5, 3]


def test_world_origin_is_near_the_centre_of_the_scan(wmh_scans):
    for scan in wmh_scans:
        centre = scan["affine"] @ [*(np.array(scan["label"].shape) - 1) / 2, 1]
        assert np.abs(centre[:3]).max() <= 10 + 1e-6


@pytest.mark.parametrize("which", ["wmh_folder", "isles_folder"])
def test_every_header_says_phantom(which, request):
    folder = request.getfixturevalue(which)
    headers = [nib.load(folder / name).header for name in files(folder) if ".nii" in name]
    assert headers and all(header["descrip"].tobytes().rstrip(b"\0") == b"phantom"
                           for header in headers)


def test_one_full_scale_isles_scan_has_the_real_size():
    assert isles.isles_subject(seed=0, k=0)["CT"].shape[:2] == (256, 256)


def test_wmh_labels_are_0_1_2_and_some_scans_have_other_pathology(wmh_scans):
    found = [set(np.unique(scan["label"])) for scan in wmh_scans]
    assert all({0, 1} <= labels <= {0, 1, 2} for labels in found)
    assert {0, 1} in found and {0, 1, 2} in found


def test_isles_labels_are_0_and_1_in_every_case(isles_scans):
    assert all(set(np.unique(scan["label"])) == {0, 1} for scan in isles_scans)


def test_wmh_load_is_within_its_range(wmh_scans):
    low, high = WMH["load"]
    assert (low, high) == (0.0005, 0.015)
    for scan in wmh_scans:  # the load is rounded to whole voxels: half a voxel of tolerance
        lesion, brain = np.count_nonzero(scan["label"] == 1), scan["brain"].sum()
        assert low * brain - 0.5 <= lesion <= high * brain + 0.5


def test_lesions_lie_inside_the_brain(wmh_scans, isles_scans):
    for scan in wmh_scans + isles_scans:
        assert scan["brain"][scan["label"] > 0].all()


def test_core_lies_inside_the_deficit_and_leaves_some_of_it(isles_scans):
    for scan in isles_scans:
        assert scan["deficit"][scan["label"] == 1].all()
        assert scan["deficit"].sum() > scan["label"].sum()


def test_deficit_raises_tmax_and_core_lowers_cbf_on_average(isles_scans):
    for scan in isles_scans:
        core, penumbra = scan["label"] == 1, scan["deficit"] & (scan["label"] == 0)
        normal = scan["brain"] & ~scan["deficit"]
        assert scan["CT_Tmax"][scan["deficit"]].mean() > scan["CT_Tmax"][normal].mean() + 1
        flow = [scan["CT_CBF"][place].mean() for place in (core, penumbra, normal)]
        assert flow[0] < flow[1] < flow[2]


def test_no_flair_threshold_finds_the_lesions_even_inside_the_brain(wmh_scans):
    for scan in wmh_scans:
        brain = scan["brain"] & (scan["label"] != 2)
        assert best_threshold_dice(scan["FLAIR"][brain], scan["label"][brain] == 1) < 0.8


def test_no_threshold_on_blood_flow_finds_the_core(isles_scans):
    for scan in isles_scans:
        brain = scan["brain"]
        assert best_threshold_dice(-scan["CT_CBF"][brain], scan["label"][brain] == 1) < 0.8


@pytest.mark.parametrize("layout, subject",
                         [("wmh", "training/Singapore/50"), ("isles", "TRAINING/case_2")])
def test_voxels_do_not_depend_on_jobs_or_number_of_subjects(tmp_path, layout, subject, request):
    before = voxels(request.getfixturevalue(f"{layout}_folder") / subject)
    __main__.main(["--layout", layout, "--out", str(tmp_path / "again"), "--subjects", "2",
                   *SMALL[:-1], "2"])
    after = voxels(tmp_path / "again" / subject)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_the_command_line_makes_several_scans_at_a_time(tmp_path):
    """In a process of its own: the workers cannot import what `python -m` calls __main__."""
    result = run_apart("scans.phantom", "--layout", "acdc", "--out", tmp_path / "set",
                       "--subjects", 2, "--size", 32, "--slices", 4, "--jobs", 2)
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("set/training/*/Info.cfg"))) == 2


@pytest.mark.parametrize("make, name", [(wmh.wmh_subject, "FLAIR"), (isles.isles_subject, "CT")])
def test_another_seed_gives_another_scan(make, name):
    first, second = make(seed=0, k=0, size=32, slices=2), make(seed=1, k=0, size=32, slices=2)
    assert not np.array_equal(first[name], second[name])


def test_two_subjects_of_a_site_differ():
    first, second = (wmh.wmh_subject(seed=0, k=k, size=32, slices=4) for k in (0, 3))
    assert not np.array_equal(first["FLAIR"], second["FLAIR"])


def test_second_run_makes_only_what_is_missing(tmp_path):
    command = ["--layout", "isles", "--out", str(tmp_path / "set"), "--subjects", "2", *SMALL]
    __main__.main(command)
    kept, lost = tmp_path / "set/TRAINING/case_1", tmp_path / "set/TRAINING/case_2"
    lost.rename(tmp_path / "set/TRAINING/case_2.partial-1")  # as a killed run leaves it
    before = kept.stat().st_mtime_ns, kept.stat().st_ino
    __main__.main(command)
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == before
    assert sorted(path.name for path in kept.parent.iterdir()) == ["case_1", "case_2"]


def refusal(capsys, monkeypatch, *words):
    """Run the program on a command line that it must refuse; returns the exit status and stderr."""
    monkeypatch.setattr(sys, "argv", ["phantom.py", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        run_program(__main__.main)
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize("change", [["--seed", "1"], ["--size", "40"], ["--subjects", "5"]])
def test_folder_of_other_parameters_is_refused_in_one_line(wmh_folder, capsys, monkeypatch, change):
    words = ["--layout", "wmh", "--out", wmh_folder, "--subjects", "4", "--test", "0", *SMALL,
             *change]
    before = files(wmh_folder)
    status, error = refusal(capsys, monkeypatch, *words)
    assert status == 2 and error.count("\n") == 1
    assert "PHANTOM.json" in error and change[0].lstrip("-") in error and change[1] in error
    assert files(wmh_folder) == before


def test_folder_with_other_data_is_refused_and_left_alone(tmp_path, capsys, monkeypatch):
    (tmp_path / "training").mkdir()
    status, error = refusal(capsys, monkeypatch, "--layout", "wmh", "--out", tmp_path)
    assert status == 2 and error.count("\n") == 1 and str(tmp_path) in error
    assert [path.name for path in tmp_path.iterdir()] == ["training"]


@pytest.mark.parametrize("options",
                         [["--subjects", "0"], ["--subjects", "76"], ["--size", "8"],
                          ["--slices", "1"], ["--jobs", "0"], ["--seed", "-1"],
                          ["--scale", "full", "--size", "96"], ["--test", "111"]])
def test_an_option_out_of_range_is_refused(tmp_path, capsys, monkeypatch, options):
    status, error = refusal(capsys, monkeypatch, "--layout", "wmh", "--out", tmp_path / "set",
                            *options)
    assert status == 2 and error.count("\n") == 1 and options[0] in error
    assert not (tmp_path / "set").exists()


def test_phantom_json_lists_the_parameters_with_units(wmh_folder):
    record = json.loads(Path(wmh_folder, "PHANTOM.json").read_text())
    settings = [record[key] for key in ("layout", "scale", "subjects", "seed")]
    assert settings == ["wmh", "demo", 4, 0]
    assert record["wmh"]["load"] == [0.0005, 0.015] and "mm" in record["note"]
    assert [site["folder"] for site in record["sites"]] == [
        "Utrecht", "Singapore", "Amsterdam/GE3T", "Amsterdam/GE1T5",
        "Amsterdam/Philips_VU .PETMR_01."]
