"""Other runs of the same scans, found by their data: in the folders beside those of a set."""

from scans.folder import read_split
from scoring.run_files import Config
from scoring.runs import load_set, run_folders
from utils import UserError, log, read_description

SAME_SCANS = ("layout", "modalities", "classes", "label_interpolation", "subjects")


def sets_beside(results, fits):
    """The ResultSets in the folders beside a set's own, of the same scans and split.

    Folders that cannot be read are warned of and left out.

    Args:
        results: a ResultSet.
        fits: says of the Config of a folder's first run whether its runs are wanted.
    """
    own, found = results.folder, []
    if own.name in ("", ".."):  # the path does not say what is beside it
        own = own.resolve()
    for folder in sorted(own.parent.iterdir()):
        first = next(iter(run_folders(folder, "config.json")), None)
        if first is None or folder.absolute() == own.absolute():
            continue
        try:
            if fits(read_description(first / "config.json", Config, "Move this run folder away.")):
                other = load_set(folder)
                found += [other] if same_scans(results, other) else []
        except UserError as error:
            log(f"warning: {error}")
    return found


def same_scans(results, other):
    """Are two sets of the same scans, split in the same way?"""
    return (all(results.dataset.get(key) == other.dataset.get(key) for key in SAME_SCANS)
            and read_split(results.data) == read_split(other.data))


if __name__ == "__main__":
    from utils import explain_part
    explain_part("studies.beside", __doc__, "studies.claims")
