"""How long the stages of a reproduction took, as each noted it when it ended."""

from scans.folder import RunTime, read_run_time
from utils import UserError, read_json


def preprocessing_time(results):
    """RunTime of the data folder of a ResultSet; None where it was not noted."""
    return read_run_time(results.data)


def noted_seconds(path):
    """"seconds" of a JSON file that a stage wrote; None where it has none."""
    try:
        return RunTime(seconds=read_json(path)["seconds"], scans=0).seconds
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None
