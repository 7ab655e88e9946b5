"""Files of the library copied into other people's projects alone."""

import re
import shutil
import subprocess
import sys

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
    assert set(found) - set(sys.stdlib_module_names) == packages
