"""Layouts as files, and what a DatasetSpec may not say."""

import json
import re
from dataclasses import replace

import pytest

from checkout import ROOT
from conftest import refuses, write_wmh_subject
from raw_folders import TOML, verify, write_bids, write_image, write_toml
from scans.datasets import DATASETS, DatasetSpec, find_subjects
from scans.layouts import READ_OFF, read_layout
from scans.spec_checks import check_spec, shared_example
from scans.spec_file import digest, from_plain, read_spec_file, to_plain
from utils import UserError

WMH = DATASETS["wmh"]
DOCUMENT = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
PLAIN = {"modalities": {"FLAIR": "flair.nii*"}, "label": "seg.nii*", "label_map": {"0": 0, "1": 1}}


# Files --------------------------------------------------------------------------------------------

def test_the_documents_first_example_works_on_a_folder_of_scans(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / "raw" / name / "flair.nii.gz")
        write_image(tmp_path / "raw" / name / "seg.nii.gz", (1, 4, 9))
    path = write_toml(tmp_path, EXAMPLES[0])
    spec = read_spec_file(path)
    assert spec.label_map == {0: 0, 1: 1, 4: 2, 9: 0} and spec.ignore == (9,)
    assert "OK: 2 subjects" in verify(path, tmp_path / "raw").stdout


def test_the_documents_example_of_a_set_in_one_folder_works(tmp_path):
    for name in ("p07_1", "p07_2", "p08_1"):
        write_image(tmp_path / "raw" / "images" / f"{name}_flair.nii.gz")
        write_image(tmp_path / "raw" / "masks" / f"{name}.nii.gz", (1,))
    path = write_toml(tmp_path, EXAMPLES[1])
    subjects = find_subjects(tmp_path / "raw", read_spec_file(path))
    assert [(subject.name, subject.patient) for subject in subjects] == [
        ("p07_1", "p07"), ("p07_2", "p07"), ("p08_1", "p08")]
    assert "patients: 2, 1 of them" in verify(path, tmp_path / "raw").stdout


def test_the_documents_example_of_a_bids_mask_works(tmp_path):
    write_bids(tmp_path / "raw", ("sub-1_ses-a", "sub-2"))
    write_bids(tmp_path / "raw", ("sub-1_ses-a", "sub-2"), mask="derivatives/other/{}_dseg")
    path = write_toml(tmp_path, EXAMPLES[2])
    assert "OK: 2 subjects" in verify(path, tmp_path / "raw").stdout
    assert len(EXAMPLES) == 3


def test_every_layout_of_the_documents_table_is_there():
    layouts = DOCUMENT.split("## The data folder")[0]
    rows = re.findall(r"^\| `(\w+)` \| .* \| .* \| .* \|", layouts, re.M)
    assert rows == [*DATASETS, *READ_OFF]


@pytest.mark.parametrize("text, entry, said", [
    ("labels = 3\n", "labels", "Is it label?"), ("zzz = 3\n", "zzz", "Leave it out"),
    ("classes = 3\n", "", "classes to be a list of names, found 3"),
    ("ignore = [true]\n", "", "ignore to be a list of label values"),
    ('one_patient = "no"\n', "", "one_patient to be true or false, found 'no'"),
    ("n_val = 1.5\n", "", "n_val to be a whole number"),
    ('[modalities]\nFLAIR = "f.nii*"\nlabel = "s.nii*"\n[label_map]\n0 = 0\n1 = 1\n#', "label",
     "above the first [table], found it below [modalities]"),
    ("scan_name = '_(.)'\npatient = '(p.)'\n", "patient", "Add one_patient = false"),
    ('label = "twice"\n', "", "a TOML file"), ("x\n", "", "a TOML file")])
def test_a_fault_in_a_file_names_the_file_and_the_entry(tmp_path, text, entry, said):
    path = write_toml(tmp_path, text + TOML)
    refuses(verify(path, tmp_path), f"{path}: {entry}".rstrip(": "), said)


@pytest.mark.parametrize("keys, said", [("{0 = 0, a = 1}", "'a'"), ("{0 = 0, 01 = 1}", "'01'"),
                                        ("{0 = 0, 1.5 = 1}", "label_map to be a table"),
                                        ("{0 = 0, -1 = 1}", "from 0 to 65535, found -1")])
def test_a_label_value_that_is_no_whole_number_is_refused(tmp_path, keys, said):
    path = write_toml(tmp_path, TOML.replace("{0 = 0, 1 = 1}", keys))
    refuses(verify(path, tmp_path), path, "label_map", said)


@pytest.mark.parametrize("entry", ["modalities", "label", "label_map"])
def test_an_entry_that_is_missing_is_named(entry):
    with pytest.raises(UserError, match=f"my.toml: {entry}: expected {entry}, .*Add it"):
        from_plain({key: PLAIN[key] for key in PLAIN if key != entry}, "my.toml")


@pytest.mark.parametrize("name, said", [("none.toml", "no such file"), ("folder.toml", "a folder"),
                                        ("none.json", "or the path of a .toml file")])
def test_a_layout_that_is_not_there_is_refused(tmp_path, name, said):
    (tmp_path / "folder.toml").mkdir()
    refuses(verify(tmp_path / name, tmp_path), name, said)


def test_the_name_of_a_file_changes_with_what_it_says_alone(tmp_path):
    def name(text, file="my.toml"):
        return read_layout(str(write_toml(tmp_path, text, file)), tmp_path)[0]

    first = name(TOML)
    assert re.fullmatch("my:[0-9a-f]{8}", first)
    assert name(f"# a comment\n{TOML}") == first
    assert name(TOML.replace("1 = 1", "2 = 1")) != first
    assert name(TOML.replace("seg", "mask")) != first
    assert name(TOML, "other.toml") == first.replace("my", "other")
    assert name(f"n_val = 5\n{TOML}") == first  # the split says how many validate


@pytest.mark.parametrize("spec", DATASETS.values(), ids=DATASETS)
def test_a_spec_comes_back_whole_from_its_plain_form(spec):
    plain = json.loads(json.dumps(to_plain(spec)))
    again = from_plain(plain, "here")
    assert replace(again, n_subjects=spec.n_subjects, n_val=spec.n_val,
                   test_sites=spec.test_sites) == spec
    assert digest(again) == digest(spec)


def test_scans_in_two_levels_of_folders_are_named_after_both(tmp_path):
    for place in ("p1/v1", "p1/v2", "p2/v1"):
        for name in ("m", "l"):
            write_image(tmp_path / place / f"{name}.nii", (1,) * (name == "l"))
    spec = DatasetSpec({"M": "*/*/m.nii"}, "*/*/l.nii", {0: 0, 1: 1}, scan_name="(.+/.+)/",
                       one_patient=False, patient_name="/(p[0-9]+)/")
    subjects = find_subjects(tmp_path, spec)
    assert [(subject.name, subject.patient) for subject in subjects] == [
        ("p1_v1", "p1"), ("p1_v2", "p1"), ("p2_v1", "p2")]


# Faults in a DatasetSpec --------------------------------------------------------------------------

@pytest.mark.parametrize("changes, said", [
    ({"label_map": {0: 0, 1: 2}}, "label_map: expected a class from 0 to 1 .* found 1 = 2"),
    ({"label_map": {0: 0, 1: -1}}, "label_map: .* found 1 = -1"),
    ({"label_map": {0: 0, -1: 1}}, "label_map: .* found -1"),
    ({"label_map": {0: 0, 70000: 1}}, "label_map: .* found 70000"),
    ({"label_map": {0: 0, 1: 1.0}}, "label_map: expected whole numbers, found 1.0"),
    ({"label_map": {0: 0, 1: True}}, "label_map: expected whole numbers, found True"),
    ({"label_map": {0: 0}, "ignore": ()}, r"label_map: .* lesion \(1\) too"),
    ({"label_map": {}, "ignore": ()}, r"label_map: .* background \(0\) too"),
    ({"ignore": (-1,)}, "ignore: .* found -1"), ({"ignore": (256 ** 3,)}, "ignore: .* found"),
    ({"ignore": (5,)}, "ignore: .* found 5. Add 5 = 0"), ({"ignore": 2}, "ignore: expected a list"),
    ({"classes": "lesion"}, "classes: expected a list"), ({"classes": ("a",)}, "classes: .* 2 to"),
    ({"classes": ("a", "a")}, "classes: .* differ"), ({"classes": ("a", "")}, "classes: .* differ"),
    ({"classes": ("a", "b c", "b-c")}, "classes: .* differ in letters or digits"),
    ({"modalities": {}}, "modalities: expected one or more"),
    ({"modalities": {"label": "x.nii"}}, "modalities: .* other than .label"),
    ({"modalities": {"T1": "a.nii", "t1": "b.nii"}}, "modalities: .* more than capitals"),
    ({"modalities": {"T1": 3}}, "modalities: expected text"),
    ({"label": "../x.nii"}, "label: .* leaves the folder"), ({"label": ""}, "label: .* .empty"),
    ({"label": "/x.nii"}, "label: .*not relative"),
    ({"label": "**x.nii"}, "label: .*not an entire part"),
    ({"label": "x/"}, "label: .*no file name"), ({"label": "x/**"}, "label: .*no file name"),
    ({"scan_name": "frame"}, "scan_name: .* with a group"),
    ({"scan_name": "(frame"}, "scan_name: expected a regular expression"),
    ({"patient_name": "p"}, "patient_name: .* with a group"), ({"skip": ("*",)}, "skip: "),
    ({"one_patient": False}, "one_patient: .* without a scan_name"),
    ({"n_val": 0}, "n_val: expected 1 or more"), ({"n_subjects": -1}, "n_subjects: .* found -1"),
    ({"modalities": {"T1": "*_t1*.nii*", "T1ce": "*_t1ce.nii*"}},
     r"modalities.T1ce: .* both fit x?_t1ce.nii"),
    ({"modalities": {"T1": "x.nii*"}, "label": "x.nii*"}, "label: .* both fit x.nii")])
def test_a_fault_in_a_datasetspec_is_named_before_any_scan_is_read(changes, said):
    with pytest.raises(UserError, match=f"^here: {said}"):
        check_spec(replace(WMH, **changes), "here")


@pytest.mark.parametrize("spec", DATASETS.values(), ids=DATASETS)
def test_the_challenges_own_specs_have_no_fault(spec):
    check_spec(spec, "here")


@pytest.mark.parametrize("one, other, common", [
    ("*_t1*.nii*", "*_t1ce.nii*", True), ("*_t1.nii*", "*_t1ce.nii*", False),
    ("*_frame[0-9][0-9].nii*", "*_frame[0-9][0-9]_gt.nii*", False), ("*.nii*", "seg.nii", True),
    ("a/*.nii", "b/*.nii", False), ("**/x.nii", "a/b/x.nii", True), ("*/x.nii", "a/x.nii", True),
    ("*/x.nii", "x.nii", False), ("[!a]*.nii", "x.nii", True), ("im?.nii", "imx.nii", True)])
def test_patterns_overlap_where_what_one_is_meant_for_fits_the_other(one, other, common):
    assert bool(shared_example(one, other)) == common == bool(shared_example(other, one))


def test_a_spec_of_the_code_with_a_fault_is_one_line(tmp_path, monkeypatch):
    write_wmh_subject(tmp_path / "raw" / "a")
    monkeypatch.setitem(DATASETS, "wmh", replace(WMH, label_map={0: 0, 1: 1, 2: -1}))
    refuses(verify("wmh", tmp_path / "raw"), "scans/datasets.py: wmh: label_map", "2 = -1")


def test_a_file_that_two_patterns_fit_is_a_problem_of_its_scan(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / name / "flair_seg.nii.gz", (1,))
    path = write_toml(tmp_path, TOML.replace("seg.nii", "*_seg.nii").replace("flair.nii*", "fl*"))
    result = verify(path, tmp_path)
    assert result.returncode == 2
    assert "a/flair_seg.nii.gz: expected a file that one pattern fits, found FLAIR (fl*) and " \
        "label (*_seg.nii*)" in result.stderr
