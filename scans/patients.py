"""Whose scans these are, as far as their own files say it.

A folder that holds several scans is one patient's (ACDC), or their names say whose they are (BIDS).
Beside each image of ISLES 2018 lies a .json file whose description reads like
"ISLES 2018 - TRAIN - Train_01_A - CT": patient 01, slab A.
"""

import re

from scans.datasets import matching
from utils import UserError, is_hidden, read_json

MAX_JSON = 2 ** 20  # bytes; those beside a scan have some hundred
LEAVE_OUT = "Give a table (--patients FILE.csv), or leave --patients out."


def patient_of(subject, spec):
    """The patient of one scan, a text, or None if nothing says so.

    Raises:
        UserError: a .json file that cannot be read, or two that name different patients.
    """
    if spec.names_patients:
        return subject.patient
    found, first = None, None
    for path in sidecars_of(subject, spec):
        patient = patient_in(path, spec.patient)
        if None not in (patient, found) and patient != found:
            raise UserError(path, f"patient {found}, as {first.name} says", patient, LEAVE_OUT)
        if found is None:
            found, first = patient, path
    return found


def sidecars_of(subject, spec):
    """The .json files beside a scan's images; where a folder holds several scans, of their names.

    Returns:
        [Path, ...], sorted.
    """
    if spec.scan_name:
        own = (path.with_name(re.sub(r"(?i)\.nii(\.gz)?$", ".json", path.name))
               for paths in subject.files.values() for path in paths)
        return sorted({path for path in own if path.is_file()})
    return sorted(path for pattern in spec.sidecars for path in matching(subject.folder, pattern)
                  if not is_hidden(path, subject.folder))


def patient_in(path, pattern):
    """The patient that a .json file names: in a description, else in any of its texts."""
    if (size := path.stat().st_size) > MAX_JSON:
        raise UserError(path, f"at most {MAX_JSON} bytes", f"{size}", LEAVE_OUT)
    texts = list(texts_in(read_json(path, LEAVE_OUT)))
    described = [text for key, text in texts if str(key).lower() == "description"]
    for text in (*described, *(text for _, text in texts)):
        if match := re.search(pattern, text):
            return match.group(1)
    return None


def texts_in(value):
    """(key, text) of every text in a JSON value, at any depth."""
    waiting = [(None, value)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(key, each) for each in value]


def patients_in_files(subjects, spec):
    """{subject: patient} by the scans' own files; UserError if a scan's say nothing."""
    if not spec.sidecars and not spec.names_patients:
        raise UserError("--patients auto", "a layout whose files name the patient, as those of "
                        "isles and acdc, or bids", "another", LEAVE_OUT)
    patients = {subject.name: patient_of(subject, spec) for subject in subjects}
    for subject in subjects:
        if patients[subject.name] is None and spec.names_patients:
            raise UserError(f"{subject.name} in {subject.folder}", "a patient in the names of its "
                            f"files, by patient_name = {spec.patient_name!r}", "none",
                            "Correct patient_name, or give a table (--patients FILE.csv).")
        if patients[subject.name] is None:
            raise UserError(subject.folder, "a .json file beside an image that names the patient",
                            "none", "Unpack the archive again, with its .json files (remove the "
                            f"unpacked folder, and repeat `make isles`). {LEAVE_OUT}")
    return patients


def known_patients(subjects, spec):
    """{subject: patient} if the scans' files name one for each, else None."""
    try:
        return patients_in_files(subjects, spec)
    except UserError:
        return None


def on_both_sides(split, patients):
    """The patients, sorted, that have scans in train and in val."""
    subsets = {}
    for name, subset in split.items():
        subsets.setdefault(patients[name], set()).add(subset)
    return sorted(patient for patient, its in subsets.items() if len(its) > 1)
