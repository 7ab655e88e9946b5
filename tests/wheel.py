"""The package, as those have it who install it."""

import shutil
import subprocess
import sys
import zipfile

from checkout import ROOT

SOURCES = ("pyproject.toml", "setup.py", "LICENSE", "README.md", "distance.py", "losses.py",
           "losses_regional.py", "metrics.py", "scheduler.py", "transforms.py", "networks")


def copy_sources(folder):
    """The files that belong to the package and no others, in folder/source, which it returns."""
    for name in SOURCES:
        source, target = ROOT / name, folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder / "source"


def install(folder):
    """A folder with the package in it, built from its sources."""
    source = copy_sources(folder)
    stale = source / "build" / "lib" / "boundaryloss" / "stale.py"  # of an earlier build
    stale.parent.mkdir(parents=True)
    stale.touch()
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps",
                    "--disable-pip-version-check", "--no-build-isolation", "--wheel-dir",
                    folder / "wheel", source], check=True)
    wheel, = (folder / "wheel").glob("boundaryloss-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"
