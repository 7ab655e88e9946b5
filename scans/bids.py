"""BIDS: sub-*/[ses-*/]anat/<scan>_FLAIR.nii.gz, and masks in derivatives/*/ in the same folders.

A scan is a session, or a subject where there are none, and a subject is a patient. The modalities
are those that every scan has.
"""

import re
from glob import escape

from scans.datasets import SKIP, DatasetSpec, NothingFits, folders_below
from scans.spec_checks import check_spec
from utils import UserError, is_hidden

SCAN = r"sub-[^/_]+(?:_ses-[^/_]+)?"
FILE = re.compile(rf"(?P<scan>{SCAN})_(?P<tail>.+)\.nii(?:\.gz)?")
# that of the brain is no lesion's
MASK = re.compile(r"(?!.*brain(?:mask)?(?:_|$))(?:.*_)?(?:dseg|mask|roi)")
IS_A_MASK = re.compile(r"(?:.*_)?(?:dseg|probseg|mask|roi|defacemask)")
SHOWN = 3  # scans in a warning
PLACES = ("sub-*/anat", "sub-*/ses-*/anat")
OWN_FILE = "Name what you want in a layout of your own: LAYOUT=my.toml, see docs/data.md."


def read_bids(raw):
    """The DatasetSpec of the BIDS data set in or below `raw`.

    Returns:
        (DatasetSpec, [line, ...]): the lines say what was chosen.

    Raises:
        UserError: there is none (NothingFits) or more than one, no modality that every scan has, no
            mask, or several that could be meant.
    """
    root = find_root(raw)
    images = scans_by_tail(root, "")
    scans = set().union(*images.values())
    modalities, left_out, warnings = choose_modalities(images, scans, root)
    (folder, tail), other_masks = choose_mask(root, scans)

    tails = "|".join(re.escape(each) for each in [*modalities, tail])
    spec = DatasetSpec(
        modalities={each: f"sub-*/**/anat/sub-*_{escape(each)}.nii*" for each in modalities},
        label=f"{escape(folder)}sub-*/**/anat/sub-*_{escape(tail)}.nii*",
        label_map={0: 0, 1: 1}, one_patient=False,
        scan_name=rf"(?:^|/)({SCAN})_(?:{tails})\.nii(?:\.gz)?$", patient_name=r"/(sub-[^/]+)/")
    check_spec(spec, root)

    subjects = {scan.split("_")[0] for scan in scans}
    return spec, [f"{root}: {len(scans)} scans of {len(subjects)} subjects; "
                  f"{', '.join(modalities)}{left_out}; mask {folder}.../*_{tail}{other_masks}",
                  *warnings]


def find_root(raw):
    """The one folder in or below `raw` that holds subjects with a folder anat."""
    roots = []
    for folder in folders_below(raw, (*SKIP, "derivatives", "sourcedata", "code")):
        if any(folder.is_relative_to(root) for root in roots):
            continue
        if any(path.is_dir() for place in PLACES for path in folder.glob(place)):
            roots.append(folder)

    if not roots:
        raise NothingFits(raw, "a folder with sub-*/anat/ or sub-*/ses-*/anat/",
                          "none at any depth", "Check the path and the layout.")
    if len(roots) > 1:
        raise UserError(raw, "one BIDS data set", f"{len(roots)}: "
                        f"{', '.join(root.name for root in roots[:4])}",
                        f"Give the folder of one of them, such as {roots[0]}.")
    return roots[0]


def scans_by_tail(root, folder):
    """{what follows the scan in a file's name: {scan, ...}} of the files below root/folder."""
    found = {}
    for path in (path for place in PLACES for path in root.glob(f"{folder}{place}/sub-*.nii*")):
        match = FILE.fullmatch(path.name)
        if match and not is_hidden(path, root):
            found.setdefault(match["tail"], set()).add(match["scan"])
    return found


def choose_modalities(images, scans, root):
    """The modalities that every scan has, in words those that are left out, and warnings of these.

    acq-x_FLAIR is left out beside FLAIR: patterns cannot tell them apart.
    """
    images = {tail: its for tail, its in sorted(images.items()) if not IS_A_MASK.fullmatch(tail)}
    common = [tail for tail in images if images[tail] == scans]
    chosen = [tail for tail in common if not any(tail.endswith(f"_{each}") for each in common)]
    others = [f"{tail} in {len(its)}" for tail, its in images.items() if tail not in chosen]
    if not chosen:
        raise UserError(root, "a modality that every scan has", f"of {len(scans)} scans "
                        f"{', '.join(others[:5]) or 'none with an image'}",
                        f"Complete the scans, or move some elsewhere. {OWN_FILE}")
    warnings = [f"warning: {tail} is left out, since not every scan has it: "
                f"{', '.join(sorted(scans - its)[:SHOWN])}{', ...' * (len(scans - its) > SHOWN)} "
                "without one. Add what is missing, or move these scans elsewhere."
                for tail, its in images.items() if is_most(its, scans) and tail not in common]
    return chosen, f" (without {', '.join(others)})" if others else "", warnings


def is_most(some, scans):
    return 2 * len(some) > len(scans)


def choose_mask(root, scans):
    """(folder, tail) of the mask, and in words those that are passed over.

    It is the only one, or the only one that more than half of the scans have if they all do: a mask
    of something else may well be there where the lesions' lacks for one. Masks lie in
    derivatives/*/, or beside the images.
    """
    pipelines = sorted(path.name for path in root.glob("derivatives/*") if path.is_dir())
    masks = masks_in(root, [*(f"derivatives/{name}/" for name in pipelines), ""])
    if not masks:
        raise UserError(root, "masks (*_dseg, *_mask, *_roi) in derivatives/*/sub-*/[ses-*/]anat/",
                        "none", OWN_FILE)

    def in_words(some):
        return ", ".join(f"{folder}.../*_{tail} ({len(masks[folder, tail])} scans)"
                         for folder, tail in some[:5])

    fitting = [mask for mask, its in masks.items() if is_most(its, scans)]
    if len(fitting) != 1 or not masks[fitting[0]] >= scans:
        fitting = fitting if len(fitting) > 1 else list(masks)
    if len(fitting) > 1:
        raise UserError(root, "one kind of mask", f"{len(fitting)}: {in_words(fitting)}", OWN_FILE)
    others = [mask for mask in masks if mask != fitting[0]]
    return fitting[0], f" (not {in_words(others)})" if others else ""


def masks_in(root, folders):
    """{(folder, tail): {scan, ...}} of the masks of lesions below these folders of `root`."""
    return {(folder, tail): scans for folder in folders
            for tail, scans in sorted(scans_by_tail(root, escape(folder)).items())
            if MASK.fullmatch(tail)}
