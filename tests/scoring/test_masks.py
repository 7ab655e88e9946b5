"""Which masks a folder holds, and which of two folders belong together."""

import os

import pytest

import evaluate
from mask_folders import box, error_of, read, run_evaluate, save, write_folders
from scoring.masks import find_all, find_masks
from utils import UserError

MASK, IMAGE = box((1, 1, 1), (3, 3, 3)), box((0, 0, 0), (9, 9, 5)) * 200


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names_of(folder, found):
    return {subject: str(path.relative_to(folder)) for subject, path in found.items()}


# --- Two files ---

def test_two_files_are_one_scan_whatever_their_names(folders):
    row, = run_evaluate(folders, predictions="masks/p1.nii.gz", references="refs/p2.nii")
    assert row["subject"] == "p2"
    row, = run_evaluate(folders, predictions="masks/p1.nii.gz", references="refs/p1.nii.gz")
    assert (row["subject"], float(row["dice"])) == ("p1", pytest.approx(0.5))


def test_a_mask_whose_name_is_no_utf_8_is_refused(folders):
    os.rename(folders / "masks/p1.nii.gz", os.fsencode(folders) + b"/masks/p\xfc.nii.gz")
    assert "/masks/p\\xfc.nii.gz: expected a name in UTF-8" in error_of(folders)


def test_names_may_end_in_capitals(folders):
    for path in sorted(folders.glob("*/*.nii*")):
        stem, end = path.name.split(".", 1)
        path.rename(path.with_name(f"{stem}.{end.upper()}"))
    assert [row["subject"] for row in run_evaluate(folders)] == ["p1", "p2"]
    row, = run_evaluate(folders, predictions="masks/p1.NII.GZ", references="refs/p1.NII.GZ")
    assert row["subject"] == "p1"


def test_two_files_are_compared_with_a_third(folders):
    evaluate.main(["--compare", str(folders / "masks/p1.nii.gz"), str(folders / "refs/p1.nii.gz"),
                   "--references", str(folders / "refs/p1.nii.gz"),
                   "--csv", str(folders / "d.csv")])
    row, = read(folders / "d.csv")
    assert float(row["dice_difference"]) == pytest.approx(0.5)


@pytest.mark.parametrize("predictions, references, said", [
    ("masks/p1.nii.gz", "refs", "found a file, beside the folder"),
    ("masks", "refs/p2.nii", "found a file, beside the folder"),
    ("masks/p9.nii.gz", "refs/p2.nii", "masks/p9.nii.gz: expected a mask, found no such file"),
    ("notes.txt", "refs/p2.nii", "notes.txt: expected a mask named .nii or .nii.gz")])
def test_a_file_beside_a_folder_and_what_is_no_mask_are_refused(
        folders, predictions, references, said):
    (folders / "notes.txt").write_text("x")
    assert said in error_of(folders, predictions=predictions, references=references)


@pytest.mark.parametrize("option", ["--csv", "--summary", "--lesions"])
def test_no_mask_is_written_over(folders, option):
    mask = folders / "masks/p1.nii.gz"
    before = mask.read_bytes()
    with pytest.raises(UserError, match="a place for the output, found one of the inputs"):
        evaluate.main(["--predictions", str(mask), "--references", str(folders / "refs/p1.nii.gz"),
                       option, str(mask)])
    assert mask.read_bytes() == before


# --- Folders of other programs ---

@pytest.mark.parametrize("subject, mark, modalities", [
    ("BraTS-GLI-00000-000", "-", ["t1n", "t1c", "t2w", "t2f"]),
    ("BraTS20_Training_001", "_", ["t1", "t1ce", "t2", "flair"])])
@pytest.mark.parametrize("flat", [False, True])
def test_brats_masks_are_found_beside_the_modalities(tmp_path, subject, mark, modalities, flat):
    place = tmp_path / "refs" / ("" if flat else subject)
    save(place / f"{subject}{mark}seg.nii.gz", MASK)
    for name in modalities:
        save(place / f"{subject}{mark}{name}.nii.gz", IMAGE)
    save(tmp_path / "masks" / f"{subject}.nii.gz", MASK)
    row, = run_evaluate(tmp_path)
    assert (row["subject"], row["dice"]) == (subject, "1.0")


def test_modalities_are_left_out_only_beside_their_mask(tmp_path):
    folder = touch(tmp_path, "a_seg.nii", "a_t1.nii", "a_2.nii", "b_t1.nii.gz", "t1.nii")
    assert names_of(folder, find_masks(folder)) == {
        "a_seg": "a_seg.nii", "a_2": "a_2.nii", "b_t1": "b_t1.nii.gz", "t1": "t1.nii"}


@pytest.mark.parametrize("masks, refs", [
    (["a_0000.nii.gz"], ["a.nii"]), (["a.nii.gz"], ["a_0000.nii.gz"]), (["a.nii"], ["a_seg.nii"]),
    (["a-seg.nii"], ["a_0000.nii"])])
def test_names_that_differ_by_an_ending_are_one_subject(tmp_path, masks, refs):
    touch(tmp_path / "masks", *masks), touch(tmp_path / "refs", *refs)
    found = find_all([tmp_path / "masks", tmp_path / "refs"])
    assert [list(of_folder) for of_folder in found] == [["a"], ["a"]]


@pytest.mark.parametrize("masks, refs", [
    (["a.nii", "a_0000.nii"], ["a.nii"]), (["a.nii"], ["a.nii", "a_0000.nii"]),
    (["a_seg.nii", "a_0000.nii"], ["a.nii"])])
def test_two_masks_that_could_be_one_subjects_are_refused(tmp_path, masks, refs):
    touch(tmp_path / "masks", *masks), touch(tmp_path / "refs", *refs)
    with pytest.raises(UserError, match="one mask per subject, found also .*a"):
        find_all([tmp_path / "masks", tmp_path / "refs"])


def test_names_that_every_folder_has_stay_as_they_are(tmp_path):
    names = ["a.nii", "a_0000.nii", "b_0001.nii", "_0000.nii"]
    touch(tmp_path / "masks", *names), touch(tmp_path / "refs", *names)
    for found in find_all([tmp_path / "masks", tmp_path / "refs"]):
        assert sorted(found) == ["_0000", "a", "a_0000", "b_0001"]


def test_another_channel_is_another_subject(tmp_path):
    touch(tmp_path / "masks", "a_0001.nii"), touch(tmp_path / "refs", "a.nii")
    found = find_all([tmp_path / "masks", tmp_path / "refs"])
    assert [list(of_folder) for of_folder in found] == [["a_0001"], ["a"]]


def test_a_name_without_a_counterpart_keeps_its_ending(tmp_path):
    touch(tmp_path / "masks", "b_seg.nii"), touch(tmp_path / "refs", "a.nii")
    found = find_all([tmp_path / "masks", tmp_path / "refs"])
    assert [list(of_folder) for of_folder in found] == [["b_seg"], ["a"]]


def test_endings_are_brought_to_one_in_a_comparison_too(tmp_path):
    for place, name in (("a", "s_0000"), ("b", "s"), ("refs/s", "s-seg")):
        save(tmp_path / place / f"{name}.nii.gz", MASK)
    evaluate.main(["--compare", str(tmp_path / "a"), str(tmp_path / "b"),
                   "--references", str(tmp_path / "refs"), "--csv", str(tmp_path / "d.csv")])
    assert [row["subject"] for row in read(tmp_path / "d.csv")] == ["s"]


@pytest.mark.parametrize("hidden", [
    ["._p1.nii.gz"], [".p1.nii.gz", ".DS_Store"]])
def test_hidden_files_are_no_masks(folders, hidden):
    touch(folders / "masks", *hidden), touch(folders / "refs", *hidden)
    assert [row["subject"] for row in run_evaluate(folders)] == ["p1", "p2"]


@pytest.mark.parametrize("mask, hidden", [
    ("p1/wmh.nii.gz", "p1/._wmh.nii.gz"), ("p1/p1-seg.nii.gz", "p1/._p1-seg.nii.gz"),
    ("p1/p1_seg.nii.gz", "p2/._p2_seg.nii.gz"), ("p1/result.nii.gz", ".p2/result.nii.gz")])
def test_hidden_files_beside_nested_masks_are_none(tmp_path, mask, hidden):
    assert names_of(tmp_path, find_masks(touch(tmp_path, mask, hidden))) == {"p1": mask}


def test_hidden_files_alone_are_an_error(tmp_path):
    with pytest.raises(UserError, match="none"):
        find_masks(touch(tmp_path, "p1/._p1_seg.nii.gz"))


def test_a_folder_named_like_a_mask_is_none(tmp_path):
    folder = touch(tmp_path, "case_1.nii/wmh.nii.gz", "case_2.nii/wmh.nii.gz")
    assert sorted(find_masks(folder)) == ["case_1.nii", "case_2.nii"]
