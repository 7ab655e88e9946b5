"""Layouts read off a folder, nnU-Net's and BIDS, and folders that fit none."""

import re
from pathlib import Path

import pytest

from conftest import refuses, write_wmh_subject
from raw_folders import found, verify, write_bids, write_image, write_nnunet, write_toml
from scans.bids import read_bids
from scans.datasets import DATASETS, find_subjects
from scans.folder import Dataset
from scans.layouts import READ_OFF, read_layout
from scans.nnunet import labels_of
from scans.unlabelled import find_scans
from utils import UserError

# nnU-Net ------------------------------------------------------------------------------------------

def test_nnunet_finds_each_case_with_its_channels_and_its_label(tmp_path):
    write_nnunet(tmp_path / "raw" / "Dataset001_X", cases=2)
    assert found("nnunet", tmp_path / "raw") == {
        f"c_000{case}": {"M0": [f"c_000{case}_0000.nii.gz"], "M1": [f"c_000{case}_0001.nii.gz"],
                         "label": [f"c_000{case}.nii.gz"]} for case in range(2)}


def test_nnunet_classes_are_in_the_order_of_their_values(tmp_path):
    labels = {"core": 7, "background": 0, "edema": 3, "ignore": 9}
    root = write_nnunet(tmp_path, values=(3, 7, 9), labels=labels)
    spec = read_layout("nnunet", root)[1]
    assert spec.classes == ("background", "edema", "core")
    assert spec.label_map == {0: 0, 3: 1, 7: 2, 9: 0} and spec.ignore == (9,)
    result = verify("nnunet", root)
    assert "OK: 3 subjects" in result.stdout and "label 9 is ignored" in result.stdout


def test_nnunets_first_version_names_labels_by_value_and_channels_modality(tmp_path):
    root = write_nnunet(tmp_path, channel_names=None, file_ending=None,
                        modality={"0": "MRI", "1": "MRI"}, labels={"0": "nothing", "1": "lesion"})
    spec = read_layout("nnunet", root)[1]
    assert list(spec.modalities) == ["MRI_0", "MRI_1"]  # one name twice: the numbers tell
    assert spec.classes == ("nothing", "lesion") and spec.label_map == {0: 0, 1: 1}


def test_nnunet_files_without_compression_are_found_by_their_ending(tmp_path):
    assert len(found("nnunet", write_nnunet(tmp_path, ending=".nii"))) == 3


def test_nnunet_regions_that_do_not_overlap_are_classes():
    labels = {"background": 0, "rim": [3, 1], "core": [2]}
    assert labels_of(labels, Path("d"))[0] == {"background": [0], "rim": [3, 1], "core": [2]}


@pytest.mark.parametrize("described, said", [
    ({"file_ending": ".png"}, "file_ending: expected .nii.gz or .nii, found '.png'"),
    ({"file_ending": 3}, "file_ending to be text"),
    ({"labels": {"background": 0, "whole": [1, 2], "core": [2]}}, "2 in whole and in core"),
    ({"labels": {"background": 0, "lesion": "1"}}, "whole numbers"),
    ({"labels": {"background": 0, "lesion": 1.5}}, "whole numbers"),
    ({"labels": {"background": 0, "lesion": -1}}, "background, with the value 0"),
    ({"labels": {"lesion": 1}}, "background, with the value 0"),
    ({"labels": {}}, "background, with the value 0"),
    ({"labels": {"background": 0}}, "classes: expected 2 to 255"),
    ({"labels": {"background": 0, "a": 1, "ignore": 1}}, "1 in ignore and in a"),
    ({"labels": {"background": 0, "a": 10 ** 6}}, "label values from 0 to 65535, found 1000000"),
    ({"labels": None}, "no labels"),
    ({"channel_names": {"0": "A"}}, "c_0000_0001.nii.gz: expected channels 0 to 0"),
    ({"channel_names": {"1": "A", "2": "B"}}, "a name for each channel"),
    ({"channel_names": None}, "channel_names: expected a name for each channel"),
    ({"channel_names": ["A"]}, "channel_names to be an object")])
def test_a_dataset_json_that_cannot_be_followed_is_refused(tmp_path, described, said):
    root = write_nnunet(tmp_path, cases=1, **described)
    refuses(verify("nnunet", root), root, said)


def test_another_number_than_numtraining_is_noted(tmp_path):
    result = verify("nnunet", write_nnunet(tmp_path, numTraining=5))
    assert "numTraining is 5, while labelsTr/ holds 3" in result.stdout and not result.returncode


def test_two_nnunet_data_sets_below_raw_are_told_apart_by_the_user(tmp_path):
    for name in ("Dataset001_A", "Dataset002_B"):
        write_nnunet(tmp_path / name)
    refuses(verify("nnunet", tmp_path), "one nnU-Net data set", "Dataset001_A, Dataset002_B",
            tmp_path / "Dataset001_A")


def test_nnunet_without_its_parts_names_them(tmp_path):
    root = write_nnunet(tmp_path)
    (root / "dataset.json").unlink()
    refuses(verify("nnunet", root), root, "no dataset.json", "my.toml")


def test_images_named_as_in_the_decathlon_are_explained(tmp_path):
    root = write_nnunet(tmp_path)
    for path in (root / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_000", "_00")))
    refuses(verify("nnunet", root), "<case>_0000.nii.gz", "found c_000_000.nii.gz", "converter")


def test_a_case_without_its_label_is_named(tmp_path):
    root = write_nnunet(tmp_path)
    (root / "labelsTr" / "c_0001.nii.gz").unlink()
    result = verify("nnunet", root)
    assert "of c_0001: expected one label image, found no such file" in result.stderr


def test_nnunet_cases_of_another_ending_are_warned_of(tmp_path):
    root = write_nnunet(tmp_path)
    for name in ("imagesTr/c_0009_0000.nii", "imagesTr/c_0009_0001.nii", "labelsTr/c_0009.nii"):
        write_image(root / name, (1,))
    result = verify("nnunet", root)
    assert result.returncode == 0 and "OK: 3 subjects" in result.stdout
    assert (f"warning: 2 images in {root / 'imagesTr'} do not end with .nii.gz, the file_ending of "
            "dataset.json, and are left out: c_0009_0000.nii, ...") in result.stdout
    assert f"warning: 1 images in {root / 'labelsTr'}" in result.stdout


# BIDS ---------------------------------------------------------------------------------------------

def test_bids_finds_sessions_and_subjects_without_them(tmp_path):
    write_bids(tmp_path / "study", ("sub-1_ses-a", "sub-1_ses-b", "sub-2"))
    assert found("bids", tmp_path)["sub-1_ses-b"] == {
        "FLAIR": ["sub-1_ses-b_FLAIR.nii.gz"], "T1w": ["sub-1_ses-b_T1w.nii.gz"],
        "label": ["sub-1_ses-b_label-lesion_mask.nii.gz"]}
    subjects = find_subjects(tmp_path, read_bids(tmp_path)[0])
    assert [(subject.name, subject.patient) for subject in subjects] == [
        ("sub-1_ses-a", "sub-1"), ("sub-1_ses-b", "sub-1"), ("sub-2", "sub-2")]


def test_bids_takes_the_modalities_of_every_scan_and_says_so(tmp_path):
    write_bids(tmp_path)
    write_image(tmp_path / "sub-1" / "anat" / "sub-1_T2w.nii.gz")
    write_image(tmp_path / "sub-1" / "anat" / "sub-1_acq-x_FLAIR.nii.gz")
    spec, lines = read_bids(tmp_path)
    assert list(spec.modalities) == ["FLAIR", "T1w"]
    assert lines == [f"{tmp_path}: 2 scans of 2 subjects; FLAIR, T1w (without T2w in 1, "
                     "acq-x_FLAIR in 1); mask derivatives/manual/.../*_label-lesion_mask"]
    assert found("bids", tmp_path)["sub-1"]["FLAIR"] == ["sub-1_FLAIR.nii.gz"]


def test_of_two_names_that_end_alike_bids_takes_the_plain_one(tmp_path):
    write_bids(tmp_path, tails=("FLAIR", "acq-x_FLAIR"))
    spec, lines = read_bids(tmp_path)
    assert list(spec.modalities) == ["FLAIR"] and "(without acq-x_FLAIR in 2)" in lines[0]
    assert found("bids", tmp_path)["sub-1"]["FLAIR"] == ["sub-1_FLAIR.nii.gz"]


def test_a_bids_session_that_is_a_link_is_found(tmp_path):
    write_bids(tmp_path / "study", ("sub-1_ses-a", "sub-2"))
    for folder in ("study", "study/derivatives/manual"):
        session = tmp_path / folder / "sub-1" / "ses-a"
        session.rename(tmp_path / f"elsewhere-{len(folder)}")
        session.symlink_to(tmp_path / f"elsewhere-{len(folder)}")
    assert list(found("bids", tmp_path / "study")) == ["sub-1_ses-a", "sub-2"]
    first = found("bids", tmp_path / "study")["sub-1_ses-a"]
    assert [len(files) for files in first.values()] == [1, 1, 1]


def test_a_modality_that_most_bids_scans_have_is_not_left_out_silently(tmp_path):
    write_bids(tmp_path, ("sub-1", "sub-2", "sub-3"))
    (tmp_path / "sub-3" / "anat" / "sub-3_FLAIR.nii.gz").unlink()
    spec, lines = read_bids(tmp_path)
    assert list(spec.modalities) == ["T1w"]
    assert lines[1:] == ["warning: FLAIR is left out, since not every scan has it: sub-3 without "
                         "one. Add what is missing, or move these scans elsewhere."]


def test_a_bids_mask_that_one_scan_lacks_is_not_replaced_by_another(tmp_path):
    scans = ("sub-1", "sub-2", "sub-3")
    write_bids(tmp_path, scans)
    write_bids(tmp_path, scans, mask="derivatives/synthseg/{}_dseg")
    next(tmp_path.glob("derivatives/manual/**/sub-3_*")).unlink()
    refuses(verify("bids", tmp_path), "one kind of mask",
            "manual/.../*_label-lesion_mask (2 scans)", "synthseg/.../*_dseg (3 scans)")


def test_bids_masks_beside_the_images_count_too(tmp_path):
    write_bids(tmp_path, mask="{}_FLAIR_roi")
    write_bids(tmp_path, mask="derivatives/prep/{}_desc-brain_mask")
    assert found("bids", tmp_path)["sub-1"]["label"] == ["sub-1_FLAIR_roi.nii.gz"]
    write_bids(tmp_path, mask="derivatives/prep/{}_label-tissue_dseg")
    refuses(verify("bids", tmp_path), "prep/.../*_label-tissue_dseg (2 scans), .../*_FLAIR_roi (2")


def test_bids_masks_of_a_hidden_folder_are_passed_over(tmp_path):
    write_bids(tmp_path)
    write_bids(tmp_path, mask="derivatives/.old/{}_dseg")
    assert "manual" in read_bids(tmp_path)[0].label


@pytest.mark.parametrize("mask", ["derivatives/x/{}_dseg", "derivatives/x/{}_mask",
                                  "derivatives/x/{}_label-L_desc-T1lesion_mask",
                                  "derivatives/x/{}_label-lesion_roi", "{}_label-lesion_roi"])
def test_bids_masks_of_every_name_are_found(tmp_path, mask):
    write_bids(tmp_path, mask=mask)
    assert [len(files["label"]) for files in found("bids", tmp_path).values()] == [1, 1]


def test_a_mask_whose_name_ends_anothers_is_not_mixed_up_with_it(tmp_path):
    write_bids(tmp_path, mask="derivatives/x/{}_mask")
    write_image(tmp_path / "derivatives/x/sub-1/anat/sub-1_desc-old_mask.nii.gz", (1,))
    assert found("bids", tmp_path)["sub-1"]["label"] == ["sub-1_mask.nii.gz"]


def test_several_bids_masks_that_fit_are_listed(tmp_path):
    write_bids(tmp_path)
    write_bids(tmp_path, mask="derivatives/other/{}_dseg")
    refuses(verify("bids", tmp_path), "one kind of mask",
            "derivatives/manual/.../*_label-lesion_mask (2 scans), "
            "derivatives/other/.../*_dseg (2 scans)", "my.toml")


def test_the_only_bids_mask_that_every_scan_has_is_taken(tmp_path):
    write_bids(tmp_path)
    write_bids(tmp_path, scans=("sub-1",), mask="derivatives/other/{}_dseg")
    spec, lines = read_bids(tmp_path)
    assert "manual" in spec.label
    assert lines[0].endswith("_mask (not derivatives/other/.../*_dseg (1 scans))")


def test_masks_of_the_brain_and_images_in_derivatives_are_passed_over(tmp_path):
    write_bids(tmp_path)
    for mask in ("desc-brain_mask", "label-brain_mask", "space-T1w_desc-brainmask_dseg"):
        write_bids(tmp_path / "derivatives" / "prep", mask=f"{{}}_{mask}")
    assert "manual" in read_bids(tmp_path)[0].label and len(found("bids", tmp_path)) == 2


def test_bids_without_a_mask_or_a_common_modality_is_refused(tmp_path):
    write_bids(tmp_path / "a", mask="")
    refuses(verify("bids", tmp_path / "a"), tmp_path / "a", "derivatives/*", "found none")
    write_bids(tmp_path / "b", ("sub-1",), ("FLAIR",))
    write_bids(tmp_path / "b", ("sub-2",), ("T1w",))
    refuses(verify("bids", tmp_path / "b"), "a modality that every scan has", "FLAIR in 1, T1w in")


def test_a_bids_scan_without_its_mask_is_named(tmp_path):
    write_bids(tmp_path, ("sub-1", "sub-2"))
    next(tmp_path.glob("derivatives/**/sub-2_*")).unlink()
    assert "sub-2: expected one label image" in verify("bids", tmp_path).stderr


@pytest.mark.parametrize("layout, write", [("nnunet", write_nnunet), ("bids", write_bids)])
def test_hidden_files_are_no_scans_in_these_layouts(tmp_path, layout, write):
    root = write(tmp_path / "root")
    before = found(layout, root)
    for path in list(root.rglob("*.nii.gz")):
        path.with_name(f"._{path.name}").write_bytes(b"macOS")
    (root / ".git" / "imagesTr").mkdir(parents=True)
    assert found(layout, root) == before and verify(layout, root).returncode == 0


# Folders that do not fit --------------------------------------------------------------------------

def test_a_folder_of_another_layout_names_the_layout_that_fits(tmp_path):
    write_nnunet(tmp_path / "n")
    refuses(verify("wmh", tmp_path / "n"), "pre/FLAIR.nii*", "6 imagesTr/c_*_*.nii.gz",
            "3 labelsTr/c_*.nii.gz", "LAYOUT=nnunet (3 scans).")
    write_bids(tmp_path / "b")
    refuses(verify("nnunet", tmp_path / "b"), "sub-*/anat/sub-*_T1w.nii.gz",
            "LAYOUT=bids (2 scans).")
    write_wmh_subject(tmp_path / "w" / "a")
    refuses(verify("bids", tmp_path / "w"), "a/pre/FLAIR.nii.gz", "LAYOUT=wmh (1 scan)")


def test_a_layout_that_would_fit_but_for_a_fault_says_which(tmp_path):
    write_nnunet(tmp_path, labels={"lesion": 1})
    refuses(verify("wmh", tmp_path), "LAYOUT=nnunet (but ", "none of that value")


def test_a_folder_that_fits_nothing_points_to_a_file_of_ones_own(tmp_path):
    for number in range(12):
        write_image(tmp_path / f"patient{'abcdefghijkl'[number]}" / "flair.nii.gz")
    line = refuses(verify("wmh", tmp_path), "12 */flair.nii.gz", "LAYOUT=my.toml", "docs/data.md")
    assert len(line) < 400


def test_folders_called_test_are_named(tmp_path):
    write_wmh_subject(tmp_path / "test" / "a")
    refuses(verify("wmh", tmp_path), f"not entered: {tmp_path / 'test'}. Give it as --raw (RAW).")
    for name in ("b", "c"):
        write_wmh_subject(tmp_path / "train" / name)
    result = verify("wmh", tmp_path)
    assert f"note: {tmp_path / 'test'} is not entered" in result.stdout, result.stderr
    assert "OK: 2 subjects" in result.stdout


@pytest.mark.parametrize("names, said", [((), "but no file"), (("a.dcm", "b.dcm", "c.txt"),
                                         "no NIfTI image among 2 files with .dcm, 1 files with")])
def test_a_folder_without_images_says_what_is_in_it(tmp_path, names, said):
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "._x.nii.gz").touch()
    refuses(verify("wmh", tmp_path), said)


@pytest.mark.parametrize("name, start, said", [
    ("a.dcm", bytes(128) + b"DICM", "Convert its series: dcm2niix FOLDER."),
    ("a.mha", b"ObjectType = Image", "Convert it to NIfTI"), ("a.nrrd", b"NRRD0004", "SimpleITK")])
def test_a_folder_of_another_format_says_how_to_convert_it(tmp_path, name, start, said):
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / name).write_bytes(start)
    refuses(verify("wmh", tmp_path), "no NIfTI image among 1 files", said)
    for place in (tmp_path, tmp_path / "p1" / name):
        with pytest.raises(UserError, match=re.escape(said)):
            find_scans([place], Dataset.model_construct(
                layout="wmh", spec=None, modalities=["FLAIR", "T1"]))
    write_image(tmp_path / "p2" / "flair.nii.gz")  # beside a NIfTI the fault may lie elsewhere
    refuses(verify("wmh", tmp_path), "LAYOUT=my.toml")


def test_files_that_fit_a_pattern_but_no_name_of_a_scan_are_named(tmp_path):
    layout = write_toml(tmp_path, r"""
label = "masks/*.nii*"
scan_name = '/(p\d+)(?:_flair)?\.nii'
one_patient = false
modalities.FLAIR = "images/*_flair.nii*"
label_map = {0 = 0, 1 = 1}
""")
    for name in ("p1", "p2", "P3"):
        write_image(tmp_path / "raw" / "images" / f"{name}_flair.nii.gz")
        write_image(tmp_path / "raw" / "masks" / f"{name}.nii.gz", values=(1,))
    result = verify(layout, tmp_path / "raw")
    assert result.returncode == 0, result.stderr
    assert ("warning: 2 files fit a pattern of the layout, but not its scan_name, and are left "
            f"out: {tmp_path / 'raw'}/images/P3_flair.nii.gz, ...") in result.stdout
    for place in ("images/P3_flair", "masks/P3"):
        (tmp_path / "raw" / f"{place}.nii.gz").unlink()
    assert "left out" not in verify(layout, tmp_path / "raw").stdout


@pytest.mark.parametrize("layout", [*DATASETS, *READ_OFF])
def test_a_raw_folder_that_is_not_there_is_refused_in_every_layout(tmp_path, layout):
    refuses(verify(layout, tmp_path / "none"), "a folder of scans", "nothing there")
