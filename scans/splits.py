"""Which subjects train and which validate.

They are drawn by seed, as the authors drew them, by a table, or by whole patients. A split is a
dict {subject: "train" or "val"}, or {subject: "fold0", "fold1", ...} for cross-validation.
"""

import hashlib
import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np

from scans.datasets import pick_subjects, too_few
from scans.patients import patients_in_files
from utils import UserError, read_csv

CORRECT = "Correct the table."


def split_code2018(names, n_val):
    """Validation names of the authors' split: sorted as strings, random.seed(0), random.sample."""
    return random.Random(0).sample(sorted(names), n_val)


def is_table(how):
    return how.lower().endswith(".csv")


def choose_split(names, how, n_val, seed, patients=None):
    """Split subjects by "random" (seeded), "code2018", or a CSV with the columns subject, subset.

    Args:
        names: the subjects.
        n_val: how many validate; ignored with a CSV.
        patients: {subject: patient}; all scans of a patient then fall in one subset, and "random"
            draws whole patients until `n_val` scans are reached or the next one would exceed them.

    Raises:
        UserError: the table does not fit the subjects, a subset would be empty, or a patient would
            be in both. Its advice leads to a solution: what no split could fix comes first.
    """
    check_enough(names, patients)
    if is_table(how):
        split = read_split(how, names)
    elif how.startswith("folds:"):
        split = draw_folds(names, patients, how, seed)
    elif not (least := fewest(names, patients)) <= n_val < len(names):
        refuse_val(n_val, least, len(names))
    elif how == "code2018":
        split = assign(names, split_code2018(names, n_val))
    elif how == "random" and patients:
        split = assign(names, draw_patients(names, patients, n_val, seed))
    elif how == "random":
        drawn = np.random.default_rng(seed).permutation(sorted(names))
        split = assign(names, drawn[:n_val].tolist())
    else:
        raise UserError("--split", "random, code2018, folds:N or a .csv file", repr(how),
                        "Choose one of them.")

    if patients:
        check_patients(split, patients, how)
    return split


def draw_folds(names, patients, how, seed):
    """Folds of nearly equal size for cross-validation, drawn by seed, each of whole patients.

    Args:
        names: the subjects.
        patients: {subject: patient}; None: each subject is one.
        how: "folds:N".

    Returns:
        {subject: "fold0" to "foldN-1"}.

    Raises:
        UserError: N is no number from 2 to the number of patients.
    """
    scans = {}
    for name in sorted(names):
        scans.setdefault(patients[name] if patients else name, []).append(name)

    number = how.removeprefix("folds:")
    if not number.isdecimal() or not 2 <= int(number) <= len(scans):
        raise UserError("--split", f"folds:N with 2 to {len(scans)} folds, the number of patients",
                        repr(how), "Correct it.")

    # Each patient, in an order drawn by seed, goes to the fold that has the fewest scans so far.
    folds, in_order = [[] for _ in range(int(number))], sorted(scans)
    for place in np.random.default_rng(seed).permutation(len(scans)):
        min(folds, key=len).extend(scans[in_order[place]])
    return {name: f"fold{fold}" for fold, names in enumerate(folds) for name in names}


def check_enough(names, patients):
    """UserError unless there are two scans, of two patients: one to train, one to validate."""
    if len(names) < 2:
        raise too_few(len(names))
    if patients and len({patients[name] for name in names}) < 2:
        raise UserError("--patients", "2 patients or more, to train and to validate",
                        f"1 for all {len(names)} scans", "Add scans of another one; or say in a "
                        "table whose they are: --patients FILE.csv.")


def fewest(names, patients):
    """The least number of scans that can validate: those of one patient, if that is known."""
    return min(Counter(patients[name] for name in names).values()) if patients else 1


def refuse_val(n_val, least, count):
    """The UserError for a --val outside of what these scans allow."""
    if 1 <= n_val < least:
        raise UserError("--val", f"at least {least}, the scans of one patient", n_val,
                        "Give a larger --val: the scans of a patient, see --patients, stay "
                        "together.")
    raise UserError("--val", f"{least} to {count - 1} of the {count} subjects", n_val,
                    "Give a smaller --val or more subjects." if n_val else "Give a larger --val.")


def default_val(names, spec, patients=None):
    """How many scans validate unless --val says so: the layout's share, but as many as must."""
    share = round(len(names) * spec.n_val / spec.n_subjects)
    return max(1, min(max(share, fewest(names, patients)), len(names) - 1)) if names else 1


def least_drawn(found, seed, spec, table=None):
    """The least --subjects that draws scans of two patients, as far as they are known; 2 or more.

    Args:
        found: all scans of the folder, from which they are drawn by `seed`.
        spec, table: as for patients_of.

    Raises:
        UserError: there is no second scan, or patient, that any number would draw.
    """
    try:
        patients = patients_of(found, spec, table)
    except UserError:
        return 2  # a table of those drawn alone
    check_enough([subject.name for subject in found], patients)
    if not patients:
        return 2
    return next(limit for limit in range(2, len(found) + 1)  # each draw holds the smaller ones
                if len({patients[each.name] for each in pick_subjects(found, limit, seed)}) > 1)


def assign(names, chosen):
    """{name: "val" if it is among the chosen, else "train"}."""
    chosen = set(chosen)
    return {name: "val" if name in chosen else "train" for name in names}


def draw_patients(names, patients, n_val, seed):
    """The scans of patients drawn by seed: at most `n_val`, in whole patients as they come."""
    scans = {}
    for name in sorted(names):
        scans.setdefault(patients[name], []).append(name)

    # Numbers are drawn and not names, because NumPy drops a NUL at the end of a text.
    in_order, chosen = sorted(scans), []
    for number in np.random.default_rng(seed).permutation(len(scans)):
        patient = in_order[number]
        if len(chosen) + len(scans[patient]) <= n_val:
            chosen += scans[patient]
    return chosen


def check_patients(split, patients, how):
    """UserError if the scans of one patient fall in both subsets."""
    first = {}
    for name in sorted(split):
        other = first.setdefault(patients[name], name)
        if split[other] != split[name]:
            raise UserError(
                how if is_table(how) else "--split", "all scans of a patient in one subset",
                f"{other} in {split[other]} and {name} in {split[name]}, "
                f"both of patient {patients[name]}",
                CORRECT if is_table(how) else "Use --split random, which draws whole patients.")


def read_table(path, column):
    """{subject: value of `column`} from a user's CSV.

    Raises:
        UserError: it is not there, has other columns, or names a subject twice.
    """
    path, wanted = Path(path), f"a CSV table with the columns subject, {column}"
    if not path.is_file():
        raise UserError(path, wanted, "a folder" if path.is_dir() else "no such file",
                        "Check the path.")

    values = {}
    for line, row in enumerate(read_csv(path, ("subject", column), CORRECT), 2):
        name, value = plain(row["subject"]), row[column].strip()
        if not any(map(str.strip, row.values())):
            continue  # Excel leaves such rows at the end
        if name in values:
            raise UserError(path, "every subject once", f"{name} again in row {line}", CORRECT)
        values[name] = value
    return values


def plain(name):
    """A subject's name without what cannot be seen: blanks at its ends, and how macOS writes ü."""
    return unicodedata.normalize("NFC", name.strip())


def same_number(name, table):
    """For an error: which row of a table a spreadsheet has made of this name; "" if none."""
    try:
        written = [other for other in table if float(other) == float(name)]
    except ValueError:  # of names that are no numbers
        return ""
    if not written:
        return ""
    return f" (there is {written[0]}: a spreadsheet rewrites numbers; make the column text)"


def read_split(path, names):
    """A user's split of exactly these subjects, with both subsets or at least two folds in it."""
    table = read_table(path, "subset")
    rows = {name: table.get(plain(name), "").lower() for name in names}
    others = sorted(set(table) - {plain(name) for name in names})
    folds = {f"fold{number}" for number in range(len(set(rows.values())))}
    if len(folds) > 1 and set(rows.values()) == folds and not others:
        return rows

    if not others and all(re.fullmatch(r"fold\d+", row) for row in rows.values()):
        raise UserError(path, "two folds or more, numbered from 0 without a gap",
                        ", ".join(sorted(set(rows.values()))), CORRECT)

    without = [name for name in names if rows[name] not in ("train", "val")]
    if without or others:
        found = [f"{name} with {rows[name]!r}" if rows[name] else
                 f"{name} without one{same_number(name, table)}" for name in without[:1]]
        found += [f"{name}, which is not there" for name in others[:1]]
        raise UserError(path, "a subset, train or val (or fold0, fold1, ...), for each subject",
                        " and ".join(found), CORRECT)

    if set(rows.values()) != {"train", "val"}:
        raise UserError(path, "subjects in train and in val", f"all in {rows[names[0]]}", CORRECT)
    return {name: rows[name] for name in names}


def patients_of(subjects, spec, table=None):
    """{subject: patient} from a user's table, or by the names of folders or files, or None.

    "auto" in place of a table: as the scans' own files say.
    """
    if table == "auto":
        return patients_in_files(subjects, spec)
    if table:
        return read_patients(table, [subject.name for subject in subjects])
    return patients_in_files(subjects, spec) if spec.names_patients else None


def read_patients(path, names):
    """{subject: patient} of these subjects from a user's CSV, which may name others too."""
    table = read_table(path, "patient")
    rows = {name: table.get(plain(name)) for name in names}
    lacking = [name for name in names if not rows[name]]
    if lacking:
        raise UserError(path, "a patient for each subject",
                        f"{lacking[0]} without one{same_number(lacking[0], table)}", CORRECT)
    return {name: rows[name] for name in names}


def split_settings(how, n_val, seed, split, patients=None):
    """The split as dataset.json holds it: how it was made, and a checksum of a table's content."""
    def digest(table):
        return hashlib.sha256(repr(sorted(table.items())).encode()).hexdigest()[:12]

    if is_table(how):
        settings = {"how": "table", "table": digest(split)}
    elif how.startswith("folds:"):
        settings = {"how": how, "seed": seed}
    else:
        settings = {"how": how, "seed": seed, "val": n_val}
    return settings | ({"patients": digest(patients)} if patients else {})


def check_written(path, split):
    """UserError if a data folder's table of the split differs from the split it is made with."""
    if path.exists() and read_table(path, "subset") != {
            plain(name): subset for name, subset in split.items()}:
        raise UserError(path, "the split that this data folder was made with", "another one",
                        "Remove it to have it written again; for another split give "
                        "--split FILE.csv and another --out.")
