"""A DatasetSpec as a file: my.toml for own data, and the form in which dataset.json keeps one."""

import hashlib
import json
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path

from pydantic import Field

from scans.datasets import DATASETS, DatasetSpec
from scans.spec_checks import CORRECT, check_spec
from utils import Description, UserError, describe_object, in_words

MAX_FILE = 2 ** 20  # bytes; a layout takes some hundred
# No matter of where the files of a scan lie or what is made of it
OF_THE_SET = ("n_subjects", "n_val", "test_sites")


class SpecFile(Description):
    """A layout of your own, my.toml."""

    modalities: dict[str, str] = Field(
        description="name = pattern of its files from a scan's folder on; in the order of the "
        "network's channels", **in_words("a table of name = pattern"))
    label: str = Field(description="pattern of the label image")
    label_map: dict[str, int] = Field(
        description="value in the label image = number of its class; any other value is an error",
        **in_words("a table of label value = number of its class"))
    classes: list[str] = Field(
        ["background", "lesion"], description="names of the classes, background first",
        **in_words("a list of names"))
    ignore: list[int] = Field(
        [], description="label values that scores leave out (in label_map too: their class in "
        "training)", **in_words("a list of label values"))
    scan_name: str = Field(
        "", description="where a folder holds several scans: regex whose group, found in a file's "
        "path from that folder on, names the scan")
    one_patient: bool = Field(
        True, description="are the scans of such a folder one patient's? false: the folder is the "
        "whole set", **in_words("true or false"))
    patient_name: str = Field(
        "", description="regex whose group, found in a file's path from the name of that folder "
        "on, names the patient")
    patient: str = Field(
        "", description="regex whose group, found in the .json file beside an image, names the "
        "patient")
    n_subjects: int = Field(60, description="number of scans of the full set")
    n_val: int = Field(10, description="those of them that validate; smaller sets in proportion")
    n_patients: int = Field(0, description="number of patients of the full set")
    sites: dict[str, int] = Field(
        {}, description="folder's name = number of scans in it", **in_words(
            "a table of folder = number of scans"))
    test_sites: dict[str, int] = Field(
        {}, description="the same of the set's own test scans, where they are public", **in_words(
            "a table of folder = number of scans"))
    skip: list[str] = Field(
        [], description="regexes of folders that are never entered, in place of those of "
        "scans/datasets.py", **in_words("a list of regular expressions"))


def is_spec_file(layout):
    return str(layout).lower().endswith(".toml")


def read_spec_file(path):
    """The DatasetSpec of a .toml file.

    Raises:
        UserError: it is not there, no TOML, or has an entry that is unknown, missing, of another
            type, or that cannot be meant.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(path, "a layout as a file", "a folder" if path.is_dir() else "no such file",
                        "Check the path.")
    if (size := path.stat().st_size) > MAX_FILE:
        raise UserError(path, f"at most {MAX_FILE} bytes", size, CORRECT)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(path, "a TOML file", f"{type(error).__name__}: {error}", CORRECT) from None
    return from_plain(values, path)


def from_plain(values, where):
    """The DatasetSpec that the plain values of a file describe; UserErrors as read_spec_file."""
    for name in values:
        if name not in SpecFile.model_fields:
            near = get_close_matches(str(name), SpecFile.model_fields, 1)
            raise UserError(f"{where}: {name}", f"one of {', '.join(SpecFile.model_fields)}",
                            "another name", f"Is it {near[0]}?" if near else "Leave it out.")
    for table, name in ((table, name) for table, entries in values.items()
                        if isinstance(entries, dict) for name in entries):
        if name in SpecFile.model_fields:  # TOML's trap: what follows a [table] belongs to it
            raise UserError(f"{where}: {name}", f"{name} above the first [table]",
                            f"it below [{table}]", "Move it to the top of the file.")
    for name, field in SpecFile.model_fields.items():
        if field.is_required() and name not in values:
            raise UserError(f"{where}: {name}", f"{name}, {first_words(field)}", "none",
                            "Add it; docs/data.md has an example.")

    entries = describe_object(where, values, SpecFile, CORRECT).as_dict()
    entries["label_map"] = label_values_of(entries["label_map"], where)
    spec = DatasetSpec(**{name: tuple(value) if isinstance(value, list) else value
                          for name, value in entries.items()})
    check_spec(spec, where)
    return spec


def first_words(field):
    return re.split("[:;(]", field.description)[0].strip()


def label_values_of(table, where):
    """{value: class} of a label_map, whose keys are text in a file; UserError at another key."""
    numbers = {}
    for key, number in table.items():
        if not re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", key):
            raise UserError(f"{where}: label_map", "whole numbers, one for each value of the "
                            "label images", repr(key), CORRECT)
        numbers[int(key)] = number
    return numbers


def to_plain(spec):
    """The values of a file that describes `spec`, without those that are as by default."""
    default = DatasetSpec(modalities={}, label="", label_map={})
    plain = {}
    for name in SpecFile.model_fields:
        value = getattr(spec, name)
        if name not in OF_THE_SET and value != getattr(default, name):
            plain[name] = list(value) if isinstance(value, tuple) else value
    return plain | {"label_map": {str(key): spec.label_map[key] for key in sorted(spec.label_map)}}


def digest(spec):
    """Eight hexadecimal digits that change when what `spec` says of a scan does."""
    return hashlib.sha256(json.dumps(to_plain(spec)).encode()).hexdigest()[:8]


def spec_of(dataset, where):
    """The DatasetSpec that a data folder or a checkpoint was made with, None if it is not known.

    Args:
        dataset: a folder.Dataset.
        where: the file it stands in, for an error.
    """
    if getattr(dataset, "spec", None):
        return from_plain(dataset.spec, f"{where}: spec")
    return DATASETS.get(dataset.layout)
