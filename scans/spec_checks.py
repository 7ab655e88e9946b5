"""What must hold of a DatasetSpec before a scan is looked for: one line says what does not."""

import re
from fnmatch import fnmatchcase
from itertools import combinations

from utils import UserError, in_a_word

MAX_LABEL = 2 ** 16 - 1  # of a value in a label image: a table of classes is made up to the largest
MAX_CLASSES = 255        # labels are stored in 8 bits, and 255 stands for ignored voxels
CORRECT = "Correct it."
TEXT, LIST, TABLE = (str, "text"), ((tuple, list), "a list, as in (1, 2)"), (dict, "a dict")
KINDS = {"modalities": TABLE, "label": TEXT, "label_map": TABLE, "classes": LIST, "ignore": LIST,
         "sites": TABLE, "test_sites": TABLE, "scan_name": TEXT, "patient_name": TEXT,
         "patient": TEXT, "skip": LIST, "one_patient": (bool, "True or False")}


def check_spec(spec, where):
    """Check a DatasetSpec.

    Args:
        spec: the DatasetSpec.
        where: the file it stands in, and its name there, for the error.

    Raises:
        UserError: at the first entry that cannot be meant; it names `where` and the entry.
    """
    def refuse(entry, expected, found, do=CORRECT):
        raise UserError(f"{where}: {entry}", expected, found, do)

    check_types(spec, refuse)
    check_patterns(spec, refuse)
    check_classes(spec, refuse)
    check_regexes(spec, refuse)

    for entry in ("n_subjects", "n_val"):
        if getattr(spec, entry) < 1:
            refuse(entry, "1 or more", getattr(spec, entry))
    if spec.patient_name and spec.patient:
        refuse("patient_name", "it, or patient, which reads the .json files", "both",
               "Leave one of them out.")
    if spec.patient and spec.scan_name and spec.one_patient:
        refuse("patient", "one_patient = false beside it, since a scan_name tells scans apart",
               "true, so that the folder is the patient",
               "Add one_patient = false, or leave patient out.")


def check_types(spec, refuse):
    """Entries of the types that DatasetSpec names: in Python (2) is no list, and ("a") neither."""
    for entry, (kind, words) in KINDS.items():
        if not isinstance(value := getattr(spec, entry), kind):
            refuse(entry, words, repr(value))

    texts = {"modalities": [*spec.modalities, *spec.modalities.values()], "classes": spec.classes,
             "skip": spec.skip}
    numbers = {"label_map": [*spec.label_map, *spec.label_map.values()], "ignore": spec.ignore,
               "n_subjects": [spec.n_subjects], "n_val": [spec.n_val]}
    for kind, words, entries in ((str, "text", texts), (int, "whole numbers", numbers)):
        for entry, values in entries.items():
            if wrong := [value for value in values if type(value) is not kind]:
                refuse(entry, words, repr(wrong[0]))


# Patterns -----------------------------------------------------------------------------------------

def check_patterns(spec, refuse):
    """Patterns that can be searched for, and of which no file plainly fits two."""
    if not spec.modalities:
        refuse("modalities", "one or more", "none")
    lower = [name.lower() for name in spec.modalities]
    for name in spec.modalities:
        if name.strip() != name or not name or name == "label":
            refuse("modalities", 'names, other than "label"', repr(name))
        if lower.count(name.lower()) > 1:
            refuse("modalities", "names that differ in more than capitals", repr(name))

    patterns = {**{f"modalities.{name}": pattern for name, pattern in spec.modalities.items()},
                "label": spec.label}
    for entry, pattern in patterns.items():
        if fault := fault_of(pattern):
            refuse(entry, "a pattern of files below a scan's folder, such as flair.nii*",
                   f"{pattern!r} ({fault})")

    for (first, one), (second, other) in combinations(patterns.items(), 2):
        if example := shared_example(one, other):
            refuse(second, f"a pattern that fits no file of {first} ({one})",
                   f"{other}: both fit {example}", "Make one of them narrower.")


def fault_of(pattern):
    """What keeps a glob from being searched for; "" if nothing does."""
    parts = pattern.split("/")
    if not pattern.strip():
        return "empty"
    if pattern.startswith("/") or "\\" in pattern or re.match(r"[A-Za-z]:", pattern):
        return "not relative, or with \\ for /"
    if ".." in parts:
        return "it leaves the folder"
    if any("**" in part and part != "**" for part in parts):
        return "** that is not an entire part"
    if "\0" in pattern or not parts[-1] or parts[-1] == "**":
        return "no file name at its end"
    return ""


def shared_example(one, other):
    """A path that both globs fit, among the plainest paths of each; None without one.

    Two globs nearly always have some path in common ("*_t1*" and "*_seg*": x_t1_seg). What counts
    is whether the files that one of them is meant for fit the other, as x_t1ce.nii fits "*_t1*".
    """
    for pattern, against in ((one, other), (other, one)):
        for example in examples(pattern):
            if fits(example.split("/"), against.split("/")):
                return example
    return None


def examples(pattern):
    """Paths that a glob fits, with little or nothing in place of each *."""
    for star in ("", "x"):
        for deep in ("", "x/"):
            path = pattern.replace("**/", deep)
            path = re.sub(r"\[(!?)(.)[^]]*\]", lambda match: "x" if match[1] else match[2], path)
            yield path.replace("*", star).replace("?", "x")


def fits(parts, pattern):
    """Does a path, in its parts, fit a glob, in its parts?"""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(fits(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and fits(parts[1:], pattern[1:])


def check_shared_files(subject, name, spec):
    """UserError if a file of this modality, or label, was found by an earlier pattern too."""
    patterns = {**spec.modalities, "label": spec.label}
    for other, paths in subject.files.items():
        if other == name:
            return
        for path in paths:
            if path in subject.files[name]:
                raise UserError(path, "a file that one pattern fits",
                                f"{other} ({patterns[other]}) and {name} ({patterns[name]})",
                                "Make one of the two narrower.")


# Classes and names --------------------------------------------------------------------------------

def check_classes(spec, refuse):
    """Every value has a class, every class a name and a value, and all of them can be stored."""
    names = list(spec.classes)
    if not 2 <= len(names) <= MAX_CLASSES:
        refuse("classes", f"2 to {MAX_CLASSES}, background first", len(names))
    words = [in_a_word(name) for name in names]
    for name, word in zip(names, words, strict=True):
        if not name.strip() or words.count(word) > 1:
            refuse("classes", "names that differ in letters or digits", repr(name))

    for entry, values in (("label_map", spec.label_map), ("ignore", spec.ignore)):
        for value in values:
            if not 0 <= value <= MAX_LABEL:
                refuse(entry, f"label values from 0 to {MAX_LABEL}", value,
                       "Change that value in the label images." if value < 0 else CORRECT)

    for value, number in spec.label_map.items():
        if not 0 <= number < len(names):
            refuse("label_map", f"a class from 0 to {len(names) - 1} for each value, as classes "
                   f"has {len(names)} names", f"{value} = {number}")
    for number, name in enumerate(names):
        if number not in spec.label_map.values():
            refuse("label_map", f"a label value of each class, {name} ({number}) too", "none")
    for value in spec.ignore:
        if value not in spec.label_map:
            refuse("ignore", "values that label_map gives a class, which is theirs in training",
                   value, f"Add {value} = 0 to label_map.")


def check_regexes(spec, refuse):
    """Regexes that compile, with a group where one is meant to be found."""
    grouped = {entry: getattr(spec, entry) for entry in ("scan_name", "patient_name", "patient")}
    for entry, text in [*grouped.items(), *(("skip", text) for text in spec.skip)]:
        try:
            groups = re.compile(text).groups
        except (re.error, RecursionError, OverflowError) as error:
            refuse(entry, "a regular expression", f"{text!r} ({error})")
        if text and entry in grouped and not groups:
            refuse(entry, "a regular expression with a group, as in _(frame[0-9]+)", repr(text))

    if not spec.one_patient and not spec.scan_name:
        refuse("one_patient", "true, where a folder holds one scan", "false without a scan_name",
               "Give a scan_name that tells the scans apart, or leave one_patient out.")

