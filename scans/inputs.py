"""No program writes over an input, or takes for an input what it has written itself."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from scans.folder import is_data_folder
from scans.geometry import BY_PREDICT, OURS, checksum_of
from scans.nifti import described_by, read_image
from utils import UserError, log

ELSEWHERE = "Choose another place for it."


def refuse_inputs(outputs, inputs, is_own=None):
    """Refuse, before anything is computed, to write over what is not this program's own.

    Args:
        outputs: paths that will be written; None among them is passed over.
        inputs: paths that are read.
        is_own: is_own(path) tells whether an existing file is an earlier output of this kind, which
            may be replaced. Without it any file that is not an input may.

    Raises:
        UserError: an output is an input, also by way of a link, a link to one, or another output;
            a file that somebody else wrote is in its place; or a file is where its folder would be.
    """
    taken = {key: path for path in inputs for key in identities(path)}
    written = {}
    for output in (path for path in outputs if path is not None):
        keys = identities(output)
        if same := [taken[key] for key in keys if key in taken]:
            which = "" if str(same[0]) == str(output) else f", {same[0]}"
            raise UserError(output, "a place for the output", f"one of the inputs{which}",
                            ELSEWHERE)
        if key := next((key for key in keys if key in written), None):
            raise UserError(output, "a place for each output", f"that of {written[key]} too",
                            ELSEWHERE)
        is_full = os.path.isfile(output) and os.path.getsize(output) > 0
        if os.path.isdir(output):
            raise UserError(output, "a place for the output, a file", "a folder", ELSEWHERE)
        above = next(parent for parent in Path(output).absolute().parents if parent.exists())
        if not above.is_dir():
            raise UserError(output, "a place for the output", f"{above} is a file", ELSEWHERE)
        if is_own and is_full and not is_own(output):
            raise UserError(output, "a new file, or an earlier output of this program",
                            "another file", f"{ELSEWHERE} Or remove that file.")
        written |= dict.fromkeys(keys, output)


def identities(path):
    """What a file is known by: its real path and, where it exists, its number on the disk."""
    real = os.path.realpath(path)
    try:
        found = os.stat(path)
    except OSError:
        return [real]
    return [real, (found.st_dev, found.st_ino)]


def note_sizes(paths):
    """Say once for all of these images that only pixdim gives their voxel size, if so.

    Returns:
        {path: Image} of those that can be read; the others are named where they are.
    """
    images, paths = {}, list(paths)
    for path in paths:
        with suppress(UserError):
            images[path] = read_image(path)
    if found := sum(image.size_from_pixdim for image in images.values()):
        log(note_of_sizes(found, len(paths)))
    return images


def note_of_sizes(found, count):
    return (f"note: {found} of {count} images have a unit matrix or none; their voxel size is "
            "pixdim's")


# Earlier outputs ----------------------------------------------------------------------------------

class OwnOutputs:
    """What predict.py wrote before, so that it is not taken for a scan: `path in own`.

    That is all that lies below --out, but for the scans that were asked for there; and, wherever it
    is, every mask whose header says that it is one.
    """

    def __init__(self, out, places):
        self.out = out and Path(os.path.realpath(out))
        real = [Path(os.path.realpath(place)) for place in places]
        self.asked_for = [place for place in real if self.out and place.is_relative_to(self.out)]
        self.count = 0

    def __contains__(self, path):
        real = Path(os.path.realpath(path))
        below = self.out and real.is_relative_to(self.out) and not any(
            map(real.is_relative_to, self.asked_for))
        found = bool(below) or (not os.path.isdir(path) and is_written_by(path, OURS))
        self.count += found
        return found

    def report(self):
        if self.count:
            log("left out: what lies below --out, and masks that their headers mark as written by "
                "these programs")


class DataFolders:
    """The data folders of preprocess.py, which are no raw scans: `path in own`."""

    def __init__(self, out=None):
        self.out = out and os.path.realpath(out)

    def __contains__(self, path):
        return os.path.realpath(path) == self.out or is_data_folder(Path(path))


def is_written_by(path, who):
    """Does the header of this image say that it was written by one of these programs?

    Args:
        path: of a NIfTI, or of a picture named .png, which says so in its first chunks.
    """
    try:
        if str(path).endswith(".png"):
            with open(path, "rb") as file:
                return who.encode() in file.read(400)
        return described_by(path).startswith(who.encode())
    except (UserError, OSError):
        return False


def is_unchanged(path):
    """Are the voxels of an image those that a program of this repository wrote into it?"""
    import nibabel as nib
    try:
        image = nib.load(path)
        return bytes(image.header["db_name"].item()) == checksum_of(image.dataobj.get_unscaled())
    except Exception:  # nibabel and gzip raise nearly anything on a damaged file
        return False


def is_described_as(path, description):
    """Does the header of this image, or the first chunk of text in a .png, say just this?"""
    text = description.encode()
    try:
        if str(path).endswith(".png"):
            text = b"Software\0" + text
            with open(path, "rb") as file:
                return len(text).to_bytes(4) + b"tEXt" + text in file.read(400)
        return described_by(path) == text
    except (UserError, OSError):
        return False


def by_models(checkpoints, *how):
    """What predict.py writes into the headers of masks: itself, and what they were made with.

    That is the start of best.pt's sha256; of several, of that of their sorted ones.

    Args:
        checkpoints: paths of best.pt files.
        how: words for what is not the usual way.
    """
    sums = []
    for checkpoint in checkpoints:
        with open(checkpoint, "rb") as file:
            sums.append(hashlib.file_digest(file, "sha256").hexdigest())

    models = f"model {sums[0][:16]}"
    if len(sums) > 1:
        together = hashlib.sha256("".join(sorted(sums)).encode()).hexdigest()
        models = f"{len(sums)} models {together[:14]}"  # all of it fits a header's 79 letters
    return ", ".join([BY_PREDICT, models, *how])


PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}  # words of `how`


def begins_with(*words):
    """A function is_own(path) for `refuse_inputs`: does the text of a file begin so?

    Any space counts as one blank.
    """
    def is_own(path):
        try:
            with open(path, encoding="utf-8") as file:
                return " ".join(file.read(400).split()).startswith(words)
        except (OSError, UnicodeDecodeError):
            return False
    return is_own
