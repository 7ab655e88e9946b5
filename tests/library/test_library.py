"""The library in other people's projects: files copied alone, and the README's training loops."""

import re
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from checkout import ROOT

PLAIN = """
import torch
from torch import nn
torch.manual_seed(0)
epochs, network = 40, nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
label = torch.zeros(4, 24, 24, dtype=torch.long)
label[:, 6:16, 8:18] = 1
loader = [(label[:, None] + 0.3 * torch.randn(4, 1, 24, 24), label)] * 3
"""
MONAI = """
import torch
from torch import nn
torch.manual_seed(0)
epochs, network = 40, nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 2, 1))
optimizer = torch.optim.Adam(network.parameters(), 2e-2)
files = [{"image": f"image{k}.nii.gz", "label": f"label{k}.nii.gz"} for k in range(4)]
"""
FOUND = """
with torch.no_grad():
    found = network(%s).argmax(1)
print("DSC", float(2 * (found * %s).sum() / (found.sum() + %s.sum())), "alpha", a)
"""


# Files copied alone -------------------------------------------------------------------------------

LOSSES = """
import torch, losses
probs = torch.full((1, 2, 4, 4), 0.5)
target = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)], 1)
phi = torch.full((1, 1, 4, 4), -2.0)
loss, _ = losses.JointLoss(losses.GeneralizedDiceLoss(), losses.BoundaryLoss())(probs, target, phi)
print(float(losses.BoundaryLoss()(probs, phi)), loss.isfinite().item())
"""
DISTANCE = """
import distance
print(distance.signed_distance([[0, 1, 1, 1, 0]]).astype(int).tolist())
"""


@pytest.mark.parametrize("file, program, printed", [
    ("losses.py", LOSSES, "-1.0 True"), ("distance.py", DISTANCE, "[[1, 0, -1, 0, 1]]")],
    ids=["losses.py", "distance.py"])
def test_a_file_copied_alone_works(tmp_path, file, program, printed):
    shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "program.py").write_text(program)
    result = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == printed


@pytest.mark.parametrize("file, packages", [
    ("losses.py", {"torch"}), ("distance.py", {"numpy", "scipy"})])
def test_a_file_to_copy_imports_few_packages(file, packages):
    lines = (ROOT / file).read_text(encoding="utf-8")
    found = re.findall(r"^(?:import|from) ([a-z_]+)", lines, re.MULTILINE)
    assert set(found) == packages


# The README's loops -------------------------------------------------------------------------------

def snippets():
    """The Python code in the README's section on one's own training."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## The losses in your own training")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def run_snippet(folder, before, snippet, after):
    """(DSC, alpha) printed at the end of a program with the snippet in its middle."""
    path = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
    (folder / "loop.py").write_text(path + before + snippet + after)
    result = subprocess.run(
        [sys.executable, "loop.py"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr

    words = result.stdout.split()
    return float(words[-3]), float(words[-1])


def test_the_plain_loop_of_the_readme_trains(tmp_path):
    plain = snippets()[0]
    assert len([line for line in plain.splitlines() if line.strip()]) <= 15
    dsc, alpha = run_snippet(tmp_path, PLAIN, plain, FOUND % ("image", "label", "label"))
    assert dsc > 0.8 and alpha == pytest.approx(0.61)  # 1 - 39 * 0.01: the schedule's last epoch


def test_the_monai_loop_of_the_readme_trains(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        # Deep enough that the boundary term does not empty the prediction.
        label = np.zeros((16, 16, 12), np.uint8)
        label[3:13, 2 + number:13, 1:11] = 1
        image = (100 * label + rng.normal(0, 10, label.shape)).astype(np.float32)
        for name, voxels in (("image", image), ("label", label)):
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / f"{name}{number}.nii.gz")

    found = FOUND % ('batch["image"]', 'batch["label"][:, 0]', 'batch["label"]')
    dsc, alpha = run_snippet(tmp_path, MONAI, snippets()[1], found)
    assert dsc > 0.8 and alpha == pytest.approx(0.61)
