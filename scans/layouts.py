"""How the scans of a folder lie: by name, read off the folder itself, or as a file of one's own."""

import os
import re
from collections import Counter
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from scans.bids import read_bids
from scans.datasets import DATASETS, SKIP, NothingFits, find_subjects, folders_below, get_spec
from scans.formats import LENGTH, kind_of
from scans.nnunet import read_nnunet
from scans.spec_file import digest, is_spec_file, read_spec_file
from utils import UserError, is_hidden, log

# The DatasetSpec depends on the folder: functions that give it, and what to print about it
READ_OFF = {"nnunet": read_nnunet, "bids": read_bids}
IMAGES = (".nii", ".nii.gz")
MOST_FILES = 20000  # looked at for a message
LOOKED_INTO = 20    # of them
SHOWN = 3           # kinds of files in it
NUMBER = r"((?<![A-Za-z])[tT][12](?!\d))|\d+"  # T1 and T2 tell no scans apart


def read_layout(layout, raw):
    """What --layout stands for.

    Args:
        layout: a name in DATASETS, nnunet, bids, or the path of a .toml file.
        raw: the folder of scans.

    Returns:
        (name, DatasetSpec): the name as dataset.json holds it. That of a file changes when its
        content does.

    Raises:
        UserError: no such layout, a fault in it, or a folder that it does not fit (NothingFits).
    """
    if layout in READ_OFF:
        spec, notes = READ_OFF[layout](raw)
        for line in notes:
            log(line)
        return layout, spec
    if is_spec_file(layout):
        spec = read_spec_file(layout)
        return f"{Path(layout).stem}:{digest(spec)}", spec
    if layout not in DATASETS:
        raise UserError("--layout", f"{', '.join([*DATASETS, *READ_OFF])} or the path of a .toml "
                        "file", repr(layout), "docs/data.md says what each of them is.")
    return layout, get_spec(layout)


def warn_of_unnamed(paths, layout):
    """Say which files fit a pattern of one's own layout, but not its scan_name.

    Args:
        paths: `unnamed` of `find_subjects`.
        layout: as `read_layout` names it. BIDS passes by what it does not need.
    """
    if paths and layout not in (*DATASETS, *READ_OFF):
        log(f"warning: {len(paths)} files fit a pattern of the layout, but not its scan_name, and "
            f"are left out: {paths[0]}" + ", ..." * (len(paths) > 1))


def warn_of_other_folders(raw, spec, subjects, own=()):
    """Say which folders hold images, but none that the layout looks for: misnamed scans, it may be.

    Args:
        raw, spec, own: as of `find_subjects`.
        subjects: what it found. A whole set in one folder has no others.
    """
    if not spec.one_patient:
        return
    known = {subject.folder for subject in subjects}
    others = [folder for folder in folders_below(raw, spec.skip, own)
              if known.isdisjoint((folder, *folder.parents))]
    found = [path for folder in others for path in sorted(folder.iterdir())
             if path.name.lower().endswith(IMAGES) and not is_hidden(path, folder)
             and path not in own and not path.is_dir()]
    if found:
        count = len({path.parent for path in found})
        log(f"warning: {count} folders with NIfTI images hold none of the layout, and are "
            f"left out: {found[0]}" + ", ..." * (len(found) > 1))


def note_test_folders(raw, spec, own=()):
    """Say which folders with images are not entered since their names say that they are for tests.

    Args:
        raw, spec, own: as of `find_subjects`.
    """
    for folder in test_folders(raw, spec.skip, own):
        log(f"note: {folder} is not entered: by its name it holds test scans")


def test_folders(raw, skip=SKIP, own=()):
    """Folders with images that are not entered because they are called test, or the like."""
    names = [pattern for pattern in skip if "test" in pattern]
    below = (path for folder in folders_below(raw, skip, own) for path in sorted(folder.iterdir())
             if any(re.fullmatch(name, path.name) for name in names))
    return [path for path in below
            if any(file.name.lower().endswith(IMAGES) for file in files_below(path))]


@contextmanager
def naming_what_fits(raw):
    """Inside, a NothingFits about `raw` becomes a line that says what was found, and what fits."""
    try:
        yield
    except NothingFits as error:
        fitting = layouts_of(raw)
        tests = test_folders(raw)
        do = (f"Another layout fits: {' or '.join(fitting)}." if fitting else
              conversion_of(raw) or tests and
              f"Folders of such a name are not entered: {tests[0]}. Give it as --raw (RAW)." or
              "Check the path, or say in a file how they lie: LAYOUT=my.toml, see docs/data.md.")
        raise UserError(error.where, error.expected, f"{error.found}, but {what_lies_in(raw)}",
                        do) from None


def layouts_of(raw):
    """The layouts in which `raw` holds at least one whole scan, as words for a message."""
    fitting = []
    for layout in (*DATASETS, *READ_OFF):
        try:
            spec = READ_OFF[layout](raw)[0] if layout in READ_OFF else get_spec(layout)
            subjects = find_subjects(raw, spec, {})
        except NothingFits:
            continue
        except UserError as error:
            if layout in READ_OFF:  # it is such a folder, with a fault
                fitting.append(f"LAYOUT={layout} (but {error.where}: {error.found})")
            continue
        whole = sum(all(subject.files.values()) for subject in subjects)
        if whole:
            fitting.append(f"LAYOUT={layout} ({whole} scan{'s' * (whole > 1)})")
    return fitting


def conversion_of(place):
    """What helps with a file, or with those below a folder, in a format that is not read.

    "" if there is a NIfTI among them, or nothing is known of the first ones.
    """
    place = Path(place)
    paths = [place / path for path in files_below(place)] if place.is_dir() else [place]
    if any(path.name.lower().endswith(IMAGES) for path in paths):
        return ""
    for path in paths[:LOOKED_INTO]:
        try:
            with open(path, "rb") as file:
                known = kind_of(file.read(LENGTH))
        except OSError:
            continue
        if known:
            return known[1]
    return ""


def what_lies_in(raw):
    """"12 files such as sub-*/anat/sub-*_T1w.nii.gz, ...": kinds of images, with their numbers."""
    files = files_below(Path(raw))
    images = [path for path in files if path.name.lower().endswith(IMAGES)]
    if not images:
        ends = Counter(path.suffix.lower() or "no ending" for path in files).most_common(SHOWN)
        return ("no file" if not files else "no NIfTI image among "
                + ", ".join(f"{count} files with {end}" for end, count in ends))

    kinds = Counter(starred(str(path)) for path in images)
    if len(kinds) > SHOWN:  # folders with names of their own
        kinds = Counter(str(PurePosixPath(*"*" * (len(path.parts) - 1),
                                          starred(path.name))) for path in images)
    shown = ", ".join(f"{count} {kind[:80]}" for kind, count in kinds.most_common(SHOWN))
    others = sum(kinds.values()) - sum(count for _, count in kinds.most_common(SHOWN))
    return shown + (f", {others} others" if others else "")


def starred(path):
    return re.sub(NUMBER, lambda match: match[1] or "*", path)


def files_below(raw):
    """The first files below `raw`, as paths from there on; hidden ones are passed over."""
    found = []
    for folder, inner, names in os.walk(raw):
        inner[:] = sorted(name for name in inner
                          if not name.startswith(".") and name != "__MACOSX")
        found += [PurePosixPath(os.path.relpath(os.path.join(folder, name), raw))
                  for name in sorted(names) if not is_hidden(name)]
        if len(found) > MOST_FILES:
            break
    return found[:MOST_FILES]
