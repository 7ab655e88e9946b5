"""Builds the package boundaryloss from the library's files at the root, which stay the only source.

In the package they import each other by its name: `from losses import ...` there reads `from
boundaryloss.losses import ...`, so that a losses.py or utils.py of the user's own is no obstacle.
Settings are in pyproject.toml.
"""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel
from setuptools.errors import SetupError

ROOT = Path(__file__).parent
PACKAGE = "boundaryloss"
MODULES = ("distance", "losses", "losses_regional", "metrics", "scheduler", "transforms")
NETWORKS = "networks"
IMPORT = re.compile(rf"^( *)from ({'|'.join((*MODULES, NETWORKS))})\b(?=[.\w]* import )", re.M)
INIT = '''"""Boundary loss for highly unbalanced segmentation (Kervadec et al., MIDL 2019).

Modules: distance, losses, losses_regional, metrics, scheduler, transforms, networks.
"""
'''


class Build(build_py):
    """Copies the library's files, with their imports of each other under the package's name."""

    def run(self):
        place = Path(self.build_lib) / PACKAGE
        shutil.rmtree(place, ignore_errors=True)  # of an earlier build, with modules it had
        (place / NETWORKS).mkdir(parents=True, exist_ok=True)
        (place / "__init__.py").write_text(INIT, encoding="utf-8")
        (place / "py.typed").write_text("", encoding="utf-8")
        for path in sources():
            text = path.read_text(encoding="utf-8")
            (place / path.relative_to(ROOT)).write_text(in_package(text), encoding="utf-8")

    def get_outputs(self, include_bytecode=1):
        place = Path(self.build_lib) / PACKAGE
        return [str(path) for path in place.rglob("*") if path.is_file()]

    def get_source_files(self):
        return [str(path.relative_to(ROOT)) for path in sources()]


class NotEditable(editable_wheel):
    """Refuses `pip install --editable .`, which would look for a folder boundaryloss here."""

    def run(self):
        raise SetupError("expected `pip install .`, found --editable: the package is copies of "
                         "these files. To change them, import them by name in this folder: "
                         "from losses import BoundaryLoss")


def sources():
    """The library's files."""
    return [*(ROOT / f"{name}.py" for name in MODULES), *sorted((ROOT / NETWORKS).glob("*.py"))]


def in_package(text):
    """A file's text with its imports of the library under the package's name."""
    return IMPORT.sub(rf"\1from {PACKAGE}.\2", text)


setup(cmdclass={"build_py": Build, "editable_wheel": NotEditable})
