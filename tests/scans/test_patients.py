"""Whose scans these are: told by the files beside the scans, counted, and kept in one subset."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from conftest import refuses, run, write_wmh_subject
from raw_folders import write_bids, write_image
from scans.datasets import DATASETS, DatasetSpec, find_subjects
from scans.fingerprint import print_patients
from scans.folder import read_patients
from scans.patients import known_patients, on_both_sides, patient_of
from utils import UserError, read_json

ISLES = DATASETS["isles"]
NAMES = ("CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax", "OT")
PATIENTS = {"case_1": "Train_01_A", "case_2": "Train_01_B", "case_3": "Train_02_A",
            "case_4": "Train_03_A", "case_5": "Train_03_B", "case_6": "Train_04_A"}


def write_case(folder, slab=None, seed=0):
    """An ISLES case of 16x16x2 voxels; with a slab, the .json file beside each image names it."""
    rng = np.random.default_rng(seed)
    for number, name in enumerate(NAMES):
        stem = f"SMIR.Brain.XX.O.{name}.{345562 + number}"
        (folder / stem).mkdir(parents=True)
        voxels = rng.integers(0, 99, (16, 16, 2)).astype(np.int32)
        if name == "OT":
            voxels = np.zeros((16, 16, 2), np.uint8)
            voxels[4:9, 5:9, 0] = 1
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / stem / f"{stem}.nii")
        if slab:
            (folder / stem / f"{stem}.json").write_text(json.dumps(
                {"id": number, "description": f"ISLES 2018 - TRAIN - {slab} - {name}"}))


@pytest.fixture
def cases(tmp_path):
    """Six scans of four patients."""
    for number, (name, slab) in enumerate(PATIENTS.items()):
        write_case(tmp_path / "raw" / "TRAINING" / name, slab, number)
    return tmp_path / "raw"


def preprocess_isles(raw, out, *more):
    return run("preprocess.py", "--layout", "isles", "--raw", raw, "--out", out, "--size", 32,
               "--val", 2, *more)


def read_split(folder):
    with open(folder / "split.csv") as file:
        return {row["subject"]: row["subset"] for row in csv.DictReader(file)}


def of_one_case(folder, layout="isles"):
    subject, = find_subjects(folder, DATASETS[layout])
    return patient_of(subject, DATASETS[layout])


# What the files say -------------------------------------------------------------------------------

def test_the_json_files_beside_the_scans_name_the_patient(cases):
    found = known_patients(find_subjects(cases, ISLES), ISLES)
    assert found == {"case_1": "Train_01", "case_2": "Train_01", "case_3": "Train_02",
                     "case_4": "Train_03", "case_5": "Train_03", "case_6": "Train_04"}


def test_where_a_folder_holds_several_scans_each_has_its_own_json_file(tmp_path):
    for name in ("s1", "s2"):
        write_image(tmp_path / f"{name}_flair.nii.gz")
        write_image(tmp_path / f"{name}_seg.nii.gz", (1,))
        (tmp_path / f"{name}_flair.json").write_text(json.dumps({"id": f"Pat_{name}"}))
    spec = DatasetSpec({"FLAIR": "*_flair.nii*"}, "*_seg.nii*", {0: 0, 1: 1}, one_patient=False,
                       scan_name=r"(s\d)_", patient=r"(Pat_\w+)")
    assert known_patients(find_subjects(tmp_path, spec), spec) == {"s1": "Pat_s1", "s2": "Pat_s2"}


def put_json(folder, content, name="CT"):
    path, = folder.glob(f"**/SMIR.Brain.XX.O.{name}.*.json")
    path.write_text(content)


def test_hidden_json_files_say_nothing(cases):
    for path in list(cases.rglob("*.json")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26")  # as macOS leaves them
    assert known_patients(find_subjects(cases, ISLES), ISLES)["case_1"] == "Train_01"


@pytest.mark.parametrize("content", [
    '{"description": "ISLES 2018 - TRAIN - Train_63_B - CT"}',
    '{"Description": "Train_63"}', '{"a": [{"description": "x Train_63_A"}]}',
    '["ISLES 2018 - TRAIN - Train_63_A - CT"]',
    '{"file": "Train_99_A", "description": "Train_63_A"}'])
def test_the_description_may_stand_anywhere_in_it(tmp_path, content):
    write_case(tmp_path / "case_1")
    path, = tmp_path.glob("case_1/*.CT.*/*.nii")
    path.with_suffix(".json").write_text(content)
    assert of_one_case(tmp_path) == "Train_63"


@pytest.mark.parametrize("content", ['{"description": "CT"}', '{"description": 3}', "[]", "null",
                                     '{"description": "XTrain_01_A"}', '{"Train_01_A": ""}'])
def test_a_file_that_names_no_patient_says_nothing(tmp_path, content):
    write_case(tmp_path / "case_1")
    path, = tmp_path.glob("case_1/*.CT.*/*.nii")
    path.with_suffix(".json").write_text(content)
    assert of_one_case(tmp_path) is None


def test_a_scan_without_such_files_has_no_known_patient(tmp_path):
    write_case(tmp_path / "case_1")
    assert of_one_case(tmp_path) is None


@pytest.mark.parametrize("content, words", [
    ("{", "a JSON file"), ("[" * 100_000, "a JSON file"),
    (f'"{"x" * 2**20}"', "at most 1048576 bytes"),
    ('{"description": "Train_07_A"}', "patient Train_01")])
def test_a_file_that_is_damaged_or_contradicts_another_is_an_error(tmp_path, content, words):
    write_case(tmp_path / "case_1", "Train_01_A")
    put_json(tmp_path, content, "OT")
    with pytest.raises(UserError, match=words):
        of_one_case(tmp_path)


def test_the_patient_of_a_folder_of_several_scans_is_the_folder(tmp_path):
    for frame in ("01", "12"):
        for end in ("", "_gt"):
            path = tmp_path / "patient007" / f"patient007_frame{frame}{end}.nii"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    found = known_patients(find_subjects(tmp_path, DATASETS["acdc"]), DATASETS["acdc"])
    assert found == {"patient007_frame01": "patient007", "patient007_frame12": "patient007"}


def test_a_table_that_divides_a_patient_is_refused_with_verify_as_without(tmp_path):
    subsets = {"sub-1_ses-1": "train", "sub-1_ses-2": "val", "sub-2_ses-1": "train"}
    write_bids(tmp_path / "raw", subsets)
    table = tmp_path / "split.csv"
    table.write_text("subject,subset\n" + "".join(map("{},{}\n".format, subsets, subsets.values())))
    for more in (["--verify"], ["--out", tmp_path / "data"]):
        refuses(run("preprocess.py", "--layout", "bids", "--raw", tmp_path / "raw", "--split",
                    table, *more), table, "all scans of a patient in one subset", "sub-1")


def test_patients_on_both_sides():
    split = {"a": "train", "b": "val", "c": "val", "d": "train"}
    assert on_both_sides(split, {"a": "p", "b": "p", "c": "q", "d": "r"}) == ["p"]
    assert on_both_sides(split, {"a": "p", "b": "q", "c": "q", "d": "r"}) == []


# Whole patients -----------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(5))
def test_auto_draws_whole_patients(cases, tmp_path, seed):
    result = preprocess_isles(cases, tmp_path / "data", "--patients", "auto", "--seed", seed)
    assert result.returncode == 0, result.stderr
    split = read_split(tmp_path / "data")
    assert split["case_1"] == split["case_2"] and split["case_4"] == split["case_5"]
    assert list(split.values()).count("val") == 2
    assert "patients: 4, 0 of them with scans in both train and val" in result.stdout


def test_auto_and_a_table_of_the_same_patients_are_one_data_set(cases, tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text("subject,patient\n" + "".join(
        f"{name},{slab[:8]}\n" for name, slab in PATIENTS.items()))
    preprocess_isles(cases, tmp_path / "data", "--patients", "auto")
    again = preprocess_isles(cases, tmp_path / "data", "--patients", table)
    assert again.returncode == 0, again.stderr


def test_auto_where_the_files_say_nothing_is_refused(cases, tmp_path):
    for path in cases.rglob("case_3/*/*.json"):
        path.unlink()
    refuses(preprocess_isles(cases, tmp_path / "data", "--patients", "auto"), "case_3",
            "a .json file beside an image that names the patient", "found none", "Unpack")
    assert not (tmp_path / "data").exists()


def test_auto_of_a_layout_whose_files_never_say_it_is_refused(raw, tmp_path):
    refuses(run("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", tmp_path / "data",
                "--patients", "auto"), "--patients auto", "those of isles and acdc")


def test_the_2018_split_needs_no_patients(cases, tmp_path):
    assert preprocess_isles(cases, tmp_path / "data", "--split", "code2018").returncode == 0
    refuses(preprocess_isles(cases, tmp_path / "other", "--split", "code2018",
                             "--patients", "auto"), "all scans of a patient in one subset")


def test_a_data_folder_tells_how_many_patients_are_on_both_sides(cases, tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("subject,subset\n" + "".join(
        f"{name},{'val' if name in ('case_1', 'case_4', 'case_6') else 'train'}\n"
        for name in PATIENTS))
    result = preprocess_isles(cases, tmp_path / "data", "--split", table)
    assert "patients: 4, 2 of them with scans in both train and val" in result.stdout
    fingerprint = read_json(tmp_path / "data" / "fingerprint.json")
    assert (fingerprint["patients"], fingerprint["patients_in_both"]) == (4, 2)


def test_patients_do_not_change_the_checksum_of_the_data(cases, tmp_path):
    """So that runs on a data folder of an earlier version go on."""
    preprocess_isles(cases, tmp_path / "data")
    before = read_json(tmp_path / "data" / "fingerprint.json")
    for path in cases.rglob("*.json"):
        path.unlink()
    assert preprocess_isles(cases, tmp_path / "data").returncode == 0
    after = read_json(tmp_path / "data" / "fingerprint.json")
    assert "patients" in before and "patients" not in after
    assert before["sha256"] == after["sha256"]


# Verifying ----------------------------------------------------------------------------------------

def verify(raw, layout="isles"):
    return run("preprocess.py", "--verify", "--layout", layout, "--raw", raw).stdout


def test_split_csv_names_the_patients_where_they_are_known(cases, tmp_path):
    preprocess_isles(cases, tmp_path / "data")
    lines = (tmp_path / "data" / "split.csv").read_text().splitlines()
    assert lines[0] == "subject,subset,patient"
    assert read_patients(tmp_path / "data") == {
        "case_1": "1", "case_2": "1", "case_3": "2", "case_4": "3", "case_5": "3", "case_6": "4"}


def test_verify_counts_the_patients(cases):
    assert "patients: 4, 2 of them with more than one of the 6 scans\n" in verify(cases)


def test_verify_names_a_number_of_patients_that_is_not_the_challenges(capsys):
    facts = [{"subject": str(k), "patient": str(k // 2), "why": ""} for k in range(94)]
    print_patients(facts, ISLES)
    assert "patients: 47, 47 of them with more than one of the 94 scans; the challenge has 63" in (
        capsys.readouterr().out)


def test_verify_says_where_patients_are_not_known(cases):
    put_json(cases / "TRAINING" / "case_2", "{")
    text = verify(cases)
    assert "patients: not known of 1 of 6 scans" in text and "a JSON file" in text
    for path in cases.rglob("*.json"):
        path.unlink()
    assert "not known of 6 of 6 scans (no .json file of case_1 says it)" in verify(cases)


def test_verify_says_nothing_of_patients_where_no_file_could(tmp_path):
    write_wmh_subject(tmp_path / "raw" / "s0")
    assert "patients" not in verify(tmp_path / "raw", "wmh")
