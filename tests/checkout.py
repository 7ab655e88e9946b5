"""Where the checkout is, and a copy of its programs for tests that write beside them."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parent.parent


def copy_programs(folder, *more):
    """Copy programs and packages into a new folder, and what else of the checkout is named."""
    folder.mkdir(exist_ok=True)
    packages = [path.parent.name for path in ROOT.glob("*/__init__.py")]
    for name in (*(path.name for path in ROOT.glob("*.py")), *packages, *more):
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    return folder
