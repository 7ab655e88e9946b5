"""nnU-Net's raw data sets: imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz, dataset.json.

Both forms of dataset.json are read: version 2's (channel_names, labels by name) and version 1's
(modality, labels by value).
"""

import re
from dataclasses import replace
from glob import escape

from scans.datasets import DatasetSpec, NothingFits, folders_below
from scans.spec_checks import check_spec
from utils import Description, UserError, is_hidden, read_description

ENDINGS = (".nii.gz", ".nii")
WANTED = "a folder with imagesTr/, labelsTr/ and dataset.json"
CORRECT = "Correct dataset.json."
OWN_FILE = ("Write a layout of your own that gives each value one class: LAYOUT=my.toml, "
            "see docs/data.md.")
SCAN_NAME = r"^images[^/]*/(.+)_\d{4}\.nii|^labels[^/]*/(.+)\.nii"


class DatasetFile(Description):
    """The entries of nnU-Net's dataset.json that are used here."""

    labels: dict
    channel_names: dict | None = None
    modality: dict | None = None
    file_ending: str = ".nii.gz"


def read_nnunet(raw):
    """The DatasetSpec of the nnU-Net data set in or below `raw`.

    Returns:
        (DatasetSpec, [line, ...]): the lines say what is worth knowing.

    Raises:
        UserError: there is none (NothingFits) or more than one, its dataset.json is not understood,
            or its images are named in another way.
    """
    root = find_root(raw)
    path = root / "dataset.json"
    described = read_description(path, DatasetFile, CORRECT)
    if described.file_ending not in ENDINGS:
        raise UserError(f"{path}: file_ending", " or ".join(ENDINGS), repr(described.file_ending),
                        "Other formats are not read: convert images and labels to NIfTI.")

    channels = channels_of(described, path)
    values, ignored = labels_of(described.labels, path)
    end = escape(described.file_ending)
    spec = DatasetSpec(
        modalities={name: f"imagesTr/*_{number:04d}{end}" for number, name in enumerate(channels)},
        label=f"labelsTr/*{end}",
        label_map={value: number for number, name in enumerate(values) for value in values[name]}
        | dict.fromkeys(ignored, 0),
        classes=tuple(values), ignore=tuple(ignored), scan_name=SCAN_NAME, one_patient=False)
    check_spec(spec, path)

    check_images(root, len(channels), described.file_ending)
    notes = [f"{path}: label {value} is ignored: scores leave it out, training takes it for "
             f"{spec.classes[0]}" for value in ignored]
    return spec, notes + other_number(root, described) + other_endings(root, described.file_ending)


def unlabelled(spec):
    """The same for new scans, which may lie in imagesTs/ too."""
    return replace(spec, modalities={name: pattern.replace("imagesTr/", "images*/", 1)
                                     for name, pattern in spec.modalities.items()})


def find_root(raw):
    """The one folder in or below `raw` that is an nnU-Net data set."""
    roots = [folder for folder in folders_below(raw) if (folder / "imagesTr").is_dir()]
    if not roots:
        raise NothingFits(raw, WANTED, "none at any depth", "Check the path and the layout.")
    if len(roots) > 1:
        raise UserError(raw, "one nnU-Net data set", f"{len(roots)}: "
                        f"{', '.join(root.name for root in roots[:4])}",
                        f"Give the folder of one of them, such as {roots[0]}.")

    missing = [name for name in ("labelsTr", "dataset.json") if not (roots[0] / name).exists()]
    if missing:
        raise UserError(roots[0], WANTED, f"no {' and no '.join(missing)}",
                        "Add what is missing, or write a layout of your own: LAYOUT=my.toml, "
                        "see docs/data.md.")
    return roots[0]


# dataset.json -------------------------------------------------------------------------------------

def channels_of(described, path):
    """Names of the channels in order; the number is added to one that occurs twice."""
    entry = "channel_names" if described.channel_names is not None else "modality"
    table = described.get(entry)
    wanted = 'a name for each channel, as in {"0": "FLAIR", "1": "T1"}'
    if not table:
        raise UserError(f"{path}: channel_names", wanted, "none", CORRECT)

    names = [str(table.get(str(number), "")).strip() for number in range(len(table))]
    if not all(names):
        raise UserError(f"{path}: {entry}", wanted, f"{table!r:.80}", CORRECT)
    lower = [name.lower() for name in names]
    return [f"{name}_{number}" if lower.count(name.lower()) > 1 or name == "label" else name
            for number, name in enumerate(names)]


def labels_of(labels, path):
    """The label values of each class, and those that are ignored.

    Args:
        labels: {name: value or [value, ...]} (version 2), or {value as text: name} (version 1).

    Returns:
        ({name: [value, ...]}, [value, ...]), the names by their least value; 0 comes first.
    """
    where = f"{path}: labels"
    by_value = all(isinstance(name, str) for name in labels.values()) and bool(labels)
    values, ignored = {}, []
    for key, entry in labels.items():
        name, found = (entry, [key]) if by_value else (key, entry)
        found = found if isinstance(found, list) else [found]
        if by_value:
            found = [int(key)] if re.fullmatch(r"-?\d{1,9}", key) else []
        if not found or any(type(value) is not int for value in found):
            raise UserError(where, 'whole numbers, as in {"background": 0, "lesion": 1}',
                            f"{key!r}: {entry!r:.40}", CORRECT)
        if name == "ignore" and not by_value:
            ignored = found
        else:
            values.setdefault(name, []).extend(found)

    refuse_regions(values, ignored, where)
    in_order = sorted(values, key=lambda name: min(values[name]))
    if not in_order or 0 not in values[in_order[0]]:
        raise UserError(where, "background, with the value 0", "none of that value", CORRECT)
    return {name: values[name] for name in in_order}, ignored


def refuse_regions(values, ignored, where):
    """UserError if a value is in two classes: the regions of nnU-Net, one inside the other."""
    seen = dict.fromkeys(ignored, "ignore")
    for name in values:
        for value in values[name]:
            if (first := seen.setdefault(value, name)) != name:
                raise UserError(where, "one class for each value",
                                f"{value} in {first} and in {name} (overlapping regions)", OWN_FILE)


# Its files ----------------------------------------------------------------------------------------

def check_images(root, channels, ending):
    """UserError unless the images are named by their channels, those of dataset.json."""
    names = sorted(path.name for path in (root / "imagesTr").glob(f"*{ending}")
                   if not is_hidden(path, root))
    numbers = {name: re.fullmatch(rf".+_(\d{{4}}){re.escape(ending)}", name) for name in names}
    if not any(numbers.values()):
        raise UserError(root / "imagesTr", f"images such as <case>_0000{ending}, one for each "
                        "channel", f"{names[0]}" if names else f"no file that ends with {ending}",
                        "Rename them; nnU-Net's own converter splits the 4-D images of the "
                        "Decathlon.")
    for name, match in numbers.items():
        if match and int(match[1]) >= channels:
            raise UserError(root / "imagesTr" / name, f"channels 0 to {channels - 1}, as in "
                            "dataset.json", f"channel {int(match[1])}",
                            "Name it in channel_names of dataset.json, or remove these files.")


def other_number(root, described):
    """A line if there are more or fewer labels than dataset.json says."""
    number = described.get("numTraining")
    found = sum(not is_hidden(path, root)
                for path in (root / "labelsTr").glob(f"*{described.file_ending}"))
    if number in (None, found):
        return []
    return [f"note: {root / 'dataset.json'}: numTraining is {number}, while labelsTr/ holds "
            f"{found} label images"]


def other_endings(root, ending):
    """A warning for each folder with images that end otherwise, and so are not found."""
    lines = []
    for folder in (root / "imagesTr", root / "labelsTr"):
        others = sorted(path for path in folder.iterdir() if not is_hidden(path, root)
                        and path.name.endswith(ENDINGS) and not path.name.endswith(ending))
        if others:
            lines.append(f"warning: {len(others)} images in {folder} do not end with {ending}, the "
                         f"file_ending of dataset.json, and are left out: {others[0].name}"
                         + ", ..." * (len(others) > 1))
    return lines
