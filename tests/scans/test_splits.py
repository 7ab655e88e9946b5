"""Which subjects validate: by seed, as the authors drew, by a table, or by whole patients."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import preprocess, refuses, run
from scans.datasets import DATASETS, Subject, pick_subjects
from scans.patients import on_both_sides
from scans.splits import (
    choose_split,
    default_val,
    least_drawn,
    patients_of,
    read_patients,
    read_split,
    read_table,
    split_code2018,
)
from utils import UserError, read_csv


def test_the_2018_split_sorts_as_strings_and_seeds_with_zero():
    names = [f"case_{n}" for n in range(1, 95)]
    random.seed(0)
    expected = random.sample(sorted(names), 20)
    assert split_code2018(reversed(names), 20) == expected
    assert expected[:5] == ["case_54", "case_58", "case_14", "case_4", "case_69"]


# The folders of the WMH challenge's training set: bare subject numbers, unique over the three sites
UTRECHT = (0, 2, 4, 6, 8, 11, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 49)
SINGAPORE = tuple(range(50, 70))
GE3T = (*range(100, 111), *range(112, 117), 126, 132, 137, 144)


def test_the_2018_split_of_the_wmh_folders_written_out():
    names = [str(number) for number in (*UTRECHT, *SINGAPORE, *GE3T)]
    assert len(set(names)) == 60
    assert split_code2018(names, 10) == ["65", "2", "6", "67", "23", "101", "115", "35", "33", "21"]


def test_the_2018_split_of_the_isles_folders_written_out():
    numbers = (54, 58, 14, 4, 69, 66, 56, 44, 65, 50, 77, 34, 68, 25, 42, 20, 81, 39, 71, 91)
    assert split_code2018([f"case_{n}" for n in range(1, 95)], 20) == [f"case_{n}" for n in numbers]


def test_protocol_code2018_takes_its_split_unless_given_another(raw, tmp_path):
    assert preprocess(raw, tmp_path / "old", "--protocol", "code2018").returncode == 0
    assert preprocess(raw, tmp_path / "own", "--protocol", "code2018", "--split",
                      "random").returncode == 0
    assert validation(tmp_path / "old") == sorted(split_code2018([f"s{n}" for n in range(6)], 2))
    expected = choose_split([f"s{n}" for n in range(6)], "random", 2, 0)
    drawn = [name for name, subset in expected.items() if subset == "val"]
    assert validation(tmp_path / "own") == drawn


def validation(data):
    return [row["subject"] for row in read_csv(data / "split.csv") if row["subset"] == "val"]


def test_a_random_split_depends_on_the_seed_alone():
    names = [f"p{n}" for n in range(60)]
    split = choose_split(names, "random", 10, 0)
    assert split == choose_split(names[::-1], "random", 10, 0)
    assert list(split.values()).count("val") == 10
    assert split != choose_split(names, "random", 10, 1)


def test_a_split_from_a_table_is_taken_as_it_is(raw, tmp_path):
    table = tmp_path / "split.csv"
    write_table(table, "subset", subsets("s1", "s4"))
    assert preprocess(raw, tmp_path / "data", "--split", table).returncode == 0
    assert (tmp_path / "data" / "split.csv").read_text() == table.read_text()


@pytest.mark.parametrize("subset", ["train", "val"])
def test_a_split_table_with_one_subset_only_is_refused(raw, tmp_path, subset):
    table = tmp_path / "split.csv"
    table.write_text("subject,subset\n" + "".join(f"s{n},{subset}\n" for n in range(6)))
    refuses(preprocess(raw, tmp_path / "data", "--split", table), table,
            "subjects in train and in val", f"all in {subset}")
    assert not (tmp_path / "data").exists()


def test_an_empty_split_table_is_refused(raw, tmp_path):
    (tmp_path / "split.csv").touch()
    refuses(preprocess(raw, tmp_path / "data", "--split", tmp_path / "split.csv"), "split.csv",
            "no column subject, subset")


def test_a_split_table_with_a_byte_order_mark_is_read(raw, tmp_path):
    table = tmp_path / "split.csv"
    write_table(table, "subset", subsets("s1", "s2", "s3", "s4", "s5"))
    table.write_text(f"\ufeff{table.read_text()}")
    assert preprocess(raw, tmp_path / "data", "--split", table).returncode == 0


def test_a_split_table_without_a_subject_is_refused(raw, tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("subject,subset\ns0,train\n")
    refuses(preprocess(raw, tmp_path / "data", "--split", table), table, "s1 without one")


@pytest.mark.parametrize("count, advice",
                         [(1, "Training and validation need one each"), (7, "no more subjects"),
                          (0, "need one each")])
def test_a_number_of_subjects_that_cannot_be_is_refused(raw, tmp_path, count, advice):
    refuses(preprocess(raw, tmp_path / "data", "--subjects", count), "--subjects", "2 to 6",
            f"found {count}", advice)
    assert not (tmp_path / "data").exists()


def test_one_subject_alone_is_too_few(raw, tmp_path):
    refuses(preprocess(raw / "s0", tmp_path / "data"), "2 subjects or more", "found 1", "Add some")


def test_more_validation_subjects_than_there_are_is_refused(raw, tmp_path):
    result = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", tmp_path / "data",
                 "--val", 6)
    refuses(result, "--val", "1 to 5 of the 6 subjects", "found 6")


# A user's tables ----------------------------------------------------------------------------------

def write_table(path, column, values):
    lines = [f"{name},{value}\n" for name, value in values.items()]
    path.write_text(f"subject,{column}\n{''.join(lines)}")
    return path


def subsets(*val):
    return {f"s{n}": "val" if f"s{n}" in val else "train" for n in range(6)}


def test_a_subject_twice_in_a_split_table_is_refused(raw, tmp_path):
    table = write_table(tmp_path / "split.csv", "subset", subsets("s1"))
    table.write_text(table.read_text() + "s1,train\n")
    refuses(preprocess(raw, tmp_path / "data", "--split", table), table, "every subject once",
            "s1 again in row 8", "Correct the table")
    assert not (tmp_path / "data").exists()


def test_a_table_of_other_folds_than_asked_for_is_refused(raw, tmp_path):
    table = write_table(tmp_path / "t.csv", "subset", {f"s{n}": f"fold{n % 2}" for n in range(6)})
    refuses(preprocess(raw, tmp_path / "data", "--split", table, "--folds", 3), table,
            "expected 3 folds, as --folds (FOLDS) says, found 2")
    assert not (tmp_path / "data").exists()


def test_folds_and_a_number_of_validation_scans_exclude_each_other(raw, tmp_path):
    result = preprocess(raw, tmp_path / "data", "--split", "folds:2")  # with --val 2
    assert result.returncode == 2 and "--val: with folds every scan validates once" in result.stderr


def test_names_in_both_forms_of_unicode_are_one_name(tmp_path):
    """macOS writes the folder's ü as u and two dots."""
    table = write_table(tmp_path / "t.csv", "subset", {"Mu\u0308ller": "train", "b": "val"})
    assert choose_split(["M\u00fcller", "b"], str(table), 1, 0) == {
        "M\u00fcller": "train", "b": "val"}
    table = write_table(tmp_path / "t.csv", "subset", {"M\u00fcller": "train", "b": "val"})
    assert choose_split(["Mu\u0308ller", "b"], str(table), 1, 0)["Mu\u0308ller"] == "train"


def test_an_edited_split_table_does_not_change_a_finished_folder(raw, tmp_path):
    table = write_table(tmp_path / "split.csv", "subset", subsets("s1"))
    assert preprocess(raw, tmp_path / "data", "--split", table).returncode == 0
    before = (tmp_path / "data" / "split.csv").read_text()
    write_table(table, "subset", subsets("s2"))
    refuses(preprocess(raw, tmp_path / "data", "--split", table), tmp_path / "data",
            "a data set with another split")
    assert (tmp_path / "data" / "split.csv").read_text() == before


def test_a_split_table_that_was_moved_is_the_same_split(raw, tmp_path):
    table = write_table(tmp_path / "split.csv", "subset", subsets("s1"))
    assert preprocess(raw, tmp_path / "data", "--split", table).returncode == 0
    table.rename(tmp_path / "moved.CSV")
    assert preprocess(raw, tmp_path / "data", "--split", tmp_path / "moved.CSV").returncode == 0


def test_the_split_of_a_data_folder_can_be_given_to_another(raw, data, tmp_path):
    assert preprocess(raw, tmp_path / "other", "--split", data / "split.csv").returncode == 0
    assert (tmp_path / "other" / "split.csv").read_text() == (data / "split.csv").read_text()


def test_an_edited_split_of_a_data_folder_is_not_overwritten(raw, data):
    text = (data / "split.csv").read_text()
    (data / "split.csv").write_text(text.replace("train", "val", 1))
    refuses(preprocess(raw, data), data / "split.csv",
            "the split that this data folder was made with")
    (data / "split.csv").unlink()
    assert preprocess(raw, data).returncode == 0 and (data / "split.csv").read_text() == text


@pytest.mark.parametrize("option", ["--split", "--patients"])
def test_a_table_that_is_not_there_is_refused(raw, tmp_path, option):
    (tmp_path / "folder.csv").mkdir()
    refuses(preprocess(raw, tmp_path / "data", option, tmp_path / "none.csv"),
            "none.csv: expected a CSV table with the columns subject, ", "no such file",
            "Check the path")
    refuses(preprocess(raw, tmp_path / "data", option, tmp_path / "folder.csv"), "found a folder")


@pytest.mark.parametrize("text, found",
                         [("subject,subset\ns0,train,x\n", "a row of another length"),
                          ("a,b\n1,2\n", "no column"), ("\x80", "UnicodeDecodeError")],
                         ids=["long row", "other columns", "no text"])
def test_advice_about_a_users_table_is_not_to_delete_it(raw, tmp_path, text, found):
    (tmp_path / "split.csv").write_bytes(text.encode("latin-1"))
    line = refuses(preprocess(raw, tmp_path / "data", "--split", tmp_path / "split.csv"), found,
                   "Correct the table.")
    assert "Delete" not in line


def excel(how, rows):
    """A table as Excel saves it: the bytes of these rows, the header among them."""
    lines = {"semicolons": ";", "tabs": "\t", "quoted": ";", "padded": ";", "Unicode text": "\t"}
    mark = lines[how]
    quote = '"{}"'.format if how == "quoted" else str
    text = "\r\n".join(mark.join(map(quote, row)) for row in rows) + "\r\n"
    if how == "padded":
        text = text.replace("\r\n", " ;\r\n") + ";;\r\n;;\r\n"
    return text.encode("utf-16" if how == "Unicode text" else "utf-8-sig")


@pytest.mark.parametrize("how", ["semicolons", "tabs", "quoted", "padded", "Unicode text"])
def test_tables_of_a_german_or_french_excel_are_read(raw, tmp_path, how):
    split, patients = tmp_path / "split.csv", tmp_path / "patients.csv"
    split.write_bytes(excel(how, [("subject", "subset"), *subsets("s1", "s4").items()]))
    patients.write_bytes(excel(how, [("subject", "patient"),
                                     *((f"s{n}", f"Zoë, {n % 3}") for n in range(6))]))
    result = preprocess(raw, tmp_path / "data", "--split", split, "--patients", patients)
    assert result.returncode == 0, result.stderr
    assert validation(tmp_path / "data") == ["s1", "s4"]


def test_blanks_around_names_and_capitals_in_subsets_do_not_matter(raw, tmp_path):
    lines = [f"s{n}{' ' * (n % 2)},{('Train ', ' VAL')[n == 1]}\xa0\n" for n in range(6)]
    table = tmp_path / "split.csv"
    table.write_text(f"subject , subset\n{''.join(lines)}", encoding="utf-8")
    assert preprocess(raw, tmp_path / "data", "--split", table).returncode == 0
    assert validation(tmp_path / "data") == ["s1"]
    assert preprocess(raw, tmp_path / "data", "--split", table).returncode == 0


def test_a_folder_whose_name_ends_with_a_blank_is_found_in_a_table(raw, tmp_path):
    (raw / "s1").rename(raw / "s1 ")
    table = write_table(tmp_path / "split.csv", "subset", subsets("s1"))
    for _ in range(2):
        result = preprocess(raw, tmp_path / "data", "--split", table)
        assert result.returncode == 0, result.stderr
    assert validation(tmp_path / "data") == ["s1 "]


@pytest.mark.parametrize("text, words", [
    ("subject,subset\ns0,trian\n", "s0 with 'trian'"),
    ("subject,subset\n" + "".join(f"s0{n},val\n" for n in range(6)),
     "s0 without one and s00, which is not there"),
    ("subject subset\ns0 train\n", "no column subject, subset")])
def test_a_table_that_does_not_fit_says_where(raw, tmp_path, text, words):
    (tmp_path / "split.csv").write_text(text)
    refuses(preprocess(raw, tmp_path / "data", "--split", tmp_path / "split.csv"), words)


@pytest.mark.parametrize("text", [
    "sep=;\r\nsubject;subset\r\n{};val\r\n", "\n\nsubject,subset\n{},val\n",
    "Subject;SUBSET\n{};val\n", "subject,subset,Subject\n{},val,1\n",
    "subject,subset\n{},val,,\n,,\n"],
    ids=["sep=", "lines in front", "capitals", "both", "cells beyond the header"])
def test_tables_of_spreadsheets_are_read(tmp_path, text):
    (tmp_path / "split.csv").write_text(text.format("s0"))
    assert read_table(tmp_path / "split.csv", "subset") == {"s0": "val"}


@pytest.mark.parametrize("written", ["7", "7.0", "07"])
def test_a_number_that_a_spreadsheet_has_changed_is_pointed_out(tmp_path, written):
    (tmp_path / "t.csv").write_text(f"subject,patient,subset\n8,a,train\n{written},b,val\n")
    words = fr"007 without one \(there is {written}: a spreadsheet rewrites numbers"
    with pytest.raises(UserError, match=words):
        read_patients(tmp_path / "t.csv", ["8", "007"])
    with pytest.raises(UserError, match=words):
        read_split(tmp_path / "t.csv", ["8", "007"])


def test_folds_of_one_patient_name_the_patients():
    with pytest.raises(UserError, match="--patients: expected 2 patients or more"):
        choose_split(["a", "b"], "folds:2", 1, 0, {"a": "p", "b": "p"})


def test_a_table_in_the_letters_of_old_windows_says_how_to_save_it(raw, tmp_path):
    (tmp_path / "split.csv").write_bytes("subject;subset\ns0;zoë\n".encode("cp1252"))
    refuses(preprocess(raw, tmp_path / "data", "--split", tmp_path / "split.csv"),
            "save as CSV UTF-8", "Correct the table.")


# Whole patients -----------------------------------------------------------------------------------

PATIENTS = {f"case_{n}": f"p{n // 3}" for n in range(30)}  # ten patients of three scans


@pytest.mark.parametrize("seed", range(5))
def test_all_scans_of_a_patient_fall_in_one_subset(seed):
    split = choose_split(list(PATIENTS), "random", 9, seed, PATIENTS)
    assert all(len({split[name] for name in PATIENTS if PATIENTS[name] == patient}) == 1
               for patient in PATIENTS.values())
    assert sum(subset == "val" for subset in split.values()) == 9


def test_a_split_by_patient_depends_on_the_seed_and_not_the_order():
    names = list(PATIENTS)
    split = choose_split(names, "random", 9, 0, PATIENTS)
    assert split == choose_split(names[::-1], "random", 9, 0, PATIENTS)
    assert split != choose_split(names, "random", 9, 1, PATIENTS)


def test_whole_patients_give_at_most_as_many_scans_as_asked_for():
    split = choose_split(list(PATIENTS), "random", 10, 0, PATIENTS)
    assert sum(subset == "val" for subset in split.values()) == 9


def test_fewer_validation_scans_than_any_patient_has_are_refused():
    with pytest.raises(UserError,
                       match="--val: expected at least 3, the scans of one patient, found 2"):
        choose_split(list(PATIENTS), "random", 2, 0, PATIENTS)


@pytest.mark.parametrize("n_val", [1, 2, 3, 4])
def test_scans_of_one_patient_alone_are_refused_by_patients_and_not_by_val(n_val):
    with pytest.raises(UserError, match="--patients: expected 2 patients or more") as caught:
        choose_split(["a", "b", "c"], "random", n_val, 0, dict.fromkeys("abc", "p"))
    assert "--val" not in str(caught.value)


@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (3, 3), (5, 2, 2), (4, 4, 1)])
def test_advice_about_val_can_be_followed(sizes):
    """Every number is taken, or one that the message asks for is."""
    patients = {f"{owner}{n}": owner for owner, size in zip("pqr", sizes) for n in range(size)}
    for n_val in range(len(patients) + 2):
        try:
            choose_split(list(patients), "random", n_val, 0, patients)
        except UserError as error:
            low = re.search("at least (\\d+)|(\\d+) to", str(error))
            asked = int(low[1] or low[2])
            if asked < min(sizes):  # the next message then says more
                asked = min(sizes)
            assert "val" in choose_split(list(patients), "random", asked, 0, patients).values()
            assert low[2] or "see --patients" in str(error)


@pytest.mark.parametrize("how", ["random", "code2018", "table", "folds:2"])
def test_scans_of_one_patient_are_refused_whatever_the_split(tmp_path, how):
    if how == "table":
        how = str(write_table(tmp_path / "split.csv", "subset", {"a": "train", "b": "val"}))
    with pytest.raises(UserError, match="--patients: expected 2 patients or more.* Add scans"):
        choose_split(["a", "b"], how, 1, 0, dict.fromkeys("ab", "p"))


def test_a_table_that_splits_a_single_scan_cannot_help(tmp_path):
    table = write_table(tmp_path / "split.csv", "subset", {"a": "train"})
    with pytest.raises(UserError, match="2 subjects or more.* Add some"):
        choose_split(["a"], str(table), 1, 0)


def test_the_default_number_of_validation_scans_is_one_patients_at_least():
    acdc = DATASETS["acdc"]
    assert default_val(["a1", "a2", "b1", "b2"], acdc, {"a1": 0, "a2": 0, "b1": 1, "b2": 1}) == 2
    assert default_val([str(number) for number in range(200)], acdc) == 40
    assert default_val(["a", "b"], acdc) == default_val([], acdc) == 1
    assert default_val(list("abc"), replace(acdc, n_subjects=1, n_val=9)) == 2  # one trains


def test_the_2018_split_is_refused_where_it_parts_a_patient():
    with pytest.raises(UserError, match="both of patient p"):
        choose_split(list(PATIENTS), "code2018", 9, 0, PATIENTS)


def test_a_split_table_that_parts_a_patient_is_refused(raw, tmp_path):
    table = write_table(tmp_path / "split.csv", "subset", subsets("s1"))
    patients = write_table(tmp_path / "patients.csv", "patient",
                           {f"s{n}": n // 2 for n in range(6)})
    refuses(preprocess(raw, tmp_path / "data", "--split", table, "--patients", patients), table,
            "s0 in train and s1 in val, both of patient 0", "Correct the table.")


def test_a_table_of_patients_splits_a_data_folder_and_binds_it(raw, tmp_path):
    patients = write_table(tmp_path / "patients.csv", "patient",
                           {f"s{n}": n // 2 for n in range(6)} | {"elsewhere": 9})
    assert preprocess(raw, tmp_path / "data", "--patients", patients).returncode == 0
    rows = {row["subject"]: row["subset"] for row in read_csv(tmp_path / "data" / "split.csv")}
    assert all(rows[f"s{n}"] == rows[f"s{n + 1}"] for n in (0, 2, 4))
    assert list(rows.values()).count("val") == 2
    refuses(preprocess(raw, tmp_path / "data"), "a data set with another split")


@pytest.mark.parametrize("values, found", [({"s0": "a"}, "s1 without one"),
                                           ({f"s{n}": "" for n in range(6)}, "s0 without one")])
def test_a_subject_without_a_patient_is_refused(raw, tmp_path, values, found):
    patients = write_table(tmp_path / "patients.csv", "patient", values)
    refuses(preprocess(raw, tmp_path / "data", "--patients", patients), patients,
            "a patient for each subject", found)


def test_a_random_split_is_noted_as_before(data):
    noted = json.loads((data / "dataset.json").read_text())["split"]
    assert noted == {"how": "random", "seed": 0, "val": 2}


# Folds --------------------------------------------------------------------------------------------

def test_folds_hold_whole_patients_and_nearly_as_many_scans():
    names = [f"s{number}" for number in range(12)]
    patients = {name: f"p{number // 2}" for number, name in enumerate(names)}  # two scans each
    split = choose_split(names, "folds:4", 1, 0, patients)
    scans = {fold: [name for name in names if split[name] == fold] for fold in split.values()}
    assert sorted(scans) == ["fold0", "fold1", "fold2", "fold3"]
    assert sorted(map(len, scans.values())) == [2, 2, 4, 4]
    for pair in zip(names[::2], names[1::2], strict=True):
        assert split[pair[0]] == split[pair[1]]


def test_folds_are_drawn_by_seed():
    names = [f"s{number}" for number in range(20)]
    first, again, other = (choose_split(names, "folds:5", 1, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_a_table_may_name_folds(tmp_path):
    table = tmp_path / "folds.csv"
    table.write_text("subject,subset\na,fold0\nb,fold1\nc,fold0\n")
    assert choose_split(["a", "b", "c"], str(table), 1, 0) == {
        "a": "fold0", "b": "fold1", "c": "fold0"}
    table.write_text("subject,subset\na,fold0\nb,fold2\nc,fold0\n")
    with pytest.raises(UserError, match="two folds or more, numbered from 0 without a gap, found "
                                        "fold0, fold2"):
        choose_split(["a", "b", "c"], str(table), 1, 0)


# Advice -------------------------------------------------------------------------------------------

ENOUGH = st.lists(st.integers(1, 4), min_size=1, max_size=5)  # scans of each patient


def subjects_of(counts, layout):
    """Scans as a layout finds them: so many of each patient."""
    return [Subject(f"p{patient}_{scan}", Path(f"p{patient}"), {},
                    f"p{patient}" if DATASETS[layout].names_patients else None)
            for patient, count in enumerate(counts) for scan in range(count)]


def split_as_preprocess_does(options, counts):
    """The split that preprocess.py draws; UserError as there."""
    spec = DATASETS[options["layout"]]
    found = sorted(subjects_of(counts, options["layout"]), key=lambda each: each.name)
    least = least_drawn(found, options["seed"], spec)
    subjects = pick_subjects(found, options["subjects"], options["seed"], least)
    patients = patients_of(subjects, spec)
    names = [subject.name for subject in subjects]
    val = options["val"] or default_val(names, spec, patients)
    split = choose_split(names, options["split"], val, options["seed"], patients)
    return split, patients


def follow(error, options, counts):
    """Do what an error advises; returns what was changed, and each choice that it leaves."""
    where, do = error.where, error.do
    if where in ("the scans", "--patients"):
        assert "Add" in do
        return "scans", [(options, [*counts, 1])]
    if where == "--split" and error.expected.startswith("folds"):
        numbers = re.findall(r"\d+", error.expected)
        return "split", [({**options, "split": f"folds:{number}"}, counts) for number in numbers]
    if where == "--split":
        assert "--split random" in do and "--patients" not in do
        return "split", [({**options, "split": "random"}, counts)]
    option = where.removeprefix("--")
    low, high = re.match(r"(?:at least )?(\d+)(?: to (\d+))?", error.expected).groups()
    assert option in ("val", "subjects") and int(low) <= int(high or low)
    return option, [({**options, option: int(value)}, counts) for value in (low, high) if value]


@given(counts=ENOUGH, layout=st.sampled_from(["acdc", "wmh"]), seed=st.integers(0, 3),
       split=st.sampled_from(["random", "code2018", "folds:0", "folds:3", "folds:9"]),
       val=st.integers(0, 20), subjects=st.none() | st.integers(0, 20))
def test_advice_that_is_followed_leads_to_a_split_and_never_back(
        counts, layout, seed, split, val, subjects):
    start = {"layout": layout, "seed": seed, "split": split, "val": val, "subjects": subjects}
    waiting = [(start, counts, ())]
    while waiting:
        options, scans, changed = waiting.pop()
        try:
            drawn, patients = split_as_preprocess_does(options, scans)
        except UserError as error:
            what, choices = follow(error, options, scans)
            assert what not in changed, (changed, str(error))  # advice that contradicts itself
            waiting += [(*choice, (*changed, what)) for choice in choices]
            continue
        assert set(drawn.values()) == {"train", "val"} or set(drawn.values()) >= {"fold0", "fold1"}
        assert not patients or not on_both_sides(drawn, patients)
