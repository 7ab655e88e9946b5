"""The library as others have it: installed from a wheel, or a file of it copied on its own."""

import os
import shutil
import subprocess
import sys

import pytest

from checkout import ROOT
from wheel import copy_sources, install


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return install(tmp_path_factory.mktemp("package"))


ONE_STEP = """
import sys
import torch
from boundaryloss import distance, losses, losses_regional, metrics, networks, scheduler, transforms

mask = torch.zeros(1, 16, 16, dtype=torch.bool)
mask[:, 4:9, 5:11] = True
maps = torch.as_tensor(distance.signed_distance(mask[0].numpy())).expand(2, 1, 16, 16)
target = torch.nn.functional.one_hot(mask.long(), 2).movedim(-1, 1).expand(2, 2, 16, 16)

model = networks.build("unet", 1, 2, width=2)
probs = model(torch.rand(2, 1, 16, 16)).softmax(1)
alpha, beta = scheduler.weights("rebalance:0.01", 50)
loss, _ = losses_regional.build_loss("gdl+boundary")(probs, target, maps, (alpha, beta))
loss.backward()
assert all(p.grad.isfinite().all() for p in model.parameters())
assert metrics.dice(mask.numpy(), mask.numpy()) == 1
transforms.AddDistance()({"image": torch.rand(1, 16, 16), "label": mask.long()})

own = [name for name in sys.modules if name in ("utils", "losses", "distance", "metrics",
       "scheduler", "transforms", "networks")]
assert not own, own
print("works")
"""


def python(code, folder, path=""):
    """Run code in a folder; `path`: where its packages are."""
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(path)}, timeout=300)


def test_the_package_works_beside_files_of_the_same_names(installed, tmp_path):
    for name in ("utils", "losses", "distance", "metrics", "scheduler", "transforms", "networks"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('this is the user\\'s own')")
    result = python(ONE_STEP, tmp_path, installed)
    assert result.returncode == 0 and result.stdout == "works\n", result.stderr


def test_the_wheel_has_the_library_and_its_mark_of_types(installed):
    names = {path.relative_to(installed / "boundaryloss").as_posix()
             for path in (installed / "boundaryloss").rglob("*")}
    assert {"py.typed", "losses.py", "distance.py", "networks/unet.py"} <= names
    assert not names & {"utils.py", "main.py", "dataloader.py", "scans", "stale.py"}


def test_an_editable_installation_is_refused_in_a_line(tmp_path):
    code = "from setuptools.build_meta import build_editable; build_editable('wheel')"  # pip's call
    result = python(code, copy_sources(tmp_path))
    assert result.returncode and not list(tmp_path.rglob("*.whl"))
    assert "error: expected `pip install .`, found --editable: " in result.stderr


def test_modules_of_the_package_import_each_other_by_its_name(installed):
    for path in (installed / "boundaryloss").rglob("*.py"):
        own = [line for line in path.read_text().splitlines() if line.lstrip().startswith(
            ("from losses", "from distance", "from networks", "from scheduler", "from metrics"))]
        assert not own, path


def test_the_package_needs_what_the_requirements_name(installed):
    about, = installed.glob("*.dist-info")
    needed = {line.split(": ")[1].split(">")[0]
              for line in (about / "METADATA").read_text().splitlines()
              if line.startswith("Requires-Dist")}
    assert needed == {"torch", "torchvision", "numpy", "scipy"}


@pytest.mark.parametrize("name, code", [
    ("losses", "import torch; from losses import BoundaryLoss; "
               "print(BoundaryLoss()(torch.full((1, 2, 3, 3), 0.5), torch.ones(1, 1, 3, 3)).item())"
     ),
    ("distance", "import numpy as np; from distance import signed_distance; "
                 "print(-signed_distance(np.pad([[True] * 3] * 3, 2)).min() / 2)")])
def test_a_file_copied_alone_works(tmp_path, name, code):
    shutil.copy(ROOT / f"{name}.py", tmp_path)
    result = python(code, tmp_path)
    assert result.stdout == "0.5\n", result.stderr
