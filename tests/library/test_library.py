"""The README's two training loops, run as they stand there on data that a user of them would have."""

import re
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


def snippets():
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## The losses in your own training")[1]
    return re.findall(r"```python\n(.*?)```", section.split("\n## ")[0], re.DOTALL)


def run_snippet(folder, before, snippet, after):
    (folder / "loop.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{before}{snippet}{after}")
    result = subprocess.run([sys.executable, "loop.py"], cwd=folder, capture_output=True, text=True, timeout=300)
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
        label = np.zeros((16, 16, 12), np.uint8)
        label[3:13, 2 + number:13, 1:11] = 1  # deep enough that the boundary term does not empty the prediction
        image = (100 * label + rng.normal(0, 10, label.shape)).astype(np.float32)
        for name, voxels in (("image", image), ("label", label)):
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / f"{name}{number}.nii.gz")
    dsc, alpha = run_snippet(tmp_path, MONAI, snippets()[1],
                             FOUND % ('batch["image"]', 'batch["label"][:, 0]', 'batch["label"]'))
    assert dsc > 0.8 and alpha == pytest.approx(0.61)
