"""The trainer of docs/library.md, run by nnU-Net's own programs on a phantom.

Needs nnU-Net (requirements-nnunet.txt) and is skipped without it; minutes on a CPU.
"""

import json
import os
import re
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from test_loops import blocks

from checkout import ROOT

pytest.importorskip("nnunetv2", reason="pip install -r requirements-nnunet.txt")
pytestmark = pytest.mark.slow

TINY = """

class nnUNetTrainerTiny(nnUNetTrainerBoundary):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 3, 2, 1

    def on_train_epoch_end(self, outputs):
        super().on_train_epoch_end(outputs)
        self.print_to_log_file("alpha", self.loss.alpha)
"""


@pytest.fixture(scope="module")
def trainers(tmp_path_factory):
    """A folder with the trainer of the page, and one like it that trains for a moment."""
    folder = tmp_path_factory.mktemp("trainers")
    text = blocks("docs/library.md", "In nnU-Net")[0]
    (folder / "nnUNetTrainerBoundary.py").write_text(text + TINY)
    return folder


@pytest.fixture(scope="module")
def nnunet(installed, trainers, tmp_path_factory):
    """A folder with nnU-Net's own three, and the environment of its programs."""
    folder = tmp_path_factory.mktemp("nnunet")
    environment = {
        **os.environ, **{f"nnUNet_{name}": str(folder / name)
                         for name in ("raw", "preprocessed", "results")},
        "nnUNet_extTrainer": str(trainers), "nnUNet_compile": "f", "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "1", "PYTHONPATH": str(installed)}
    write_phantom(folder)
    program(environment, "nnUNetv2_plan_and_preprocess", "-d", 1, "-c", "2d", "3d_fullres",
            "-np", 1, 1)
    return folder, environment


def write_phantom(folder):
    """Five WMH phantom scans as nnU-Net's Dataset001_Phantom."""
    subprocess.run([sys.executable, "-m", "scans.phantom", "--layout", "wmh", "--out",
                    folder / "phantom", "--subjects", "5", "--test", "0", "--size", "32",
                    "--slices", "8"], cwd=ROOT, check=True, capture_output=True)
    out = folder / "raw" / "Dataset001_Phantom"
    for name in ("imagesTr", "labelsTr"):
        (out / name).mkdir(parents=True)

    for number, path in enumerate(sorted((folder / "phantom").rglob("wmh.nii.gz"))):
        for channel, name in enumerate(("FLAIR", "T1")):
            image = nib.load(path.parent / "pre" / f"{name}.nii.gz")
            nib.save(image, out / "imagesTr" / f"case_{number:03}_{channel:04}.nii.gz")
        lesion = np.rint(nib.load(path).get_fdata()) == 1
        nib.save(nib.Nifti1Image(lesion.astype(np.uint8), image.affine),
                 out / "labelsTr" / f"case_{number:03}.nii.gz")
    (out / "dataset.json").write_text(json.dumps({
        "channel_names": {"0": "FLAIR", "1": "T1"}, "labels": {"background": 0, "WMH": 1},
        "numTraining": 5, "file_ending": ".nii.gz"}))


def program(environment, name, *words):
    """Run one of nnU-Net's programs; what it printed."""
    code = "; ".join([
        "import sys", "from importlib.metadata import entry_points",
        f"sys.exit(next(iter(entry_points(group='console_scripts', name='{name}'))).load()())"])
    result = subprocess.run([sys.executable, "-c", code, *map(str, words)], env=environment,
                            capture_output=True, text=True, timeout=1500)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_nnunet_trains_and_predicts_with_the_boundary_term(nnunet, configuration):
    folder, environment = nnunet
    log = program(environment, "nnUNetv2_train", 1, configuration, 0, "-tr", "nnUNetTrainerTiny",
                  "-device", "cpu")
    assert [float(value) for value in re.findall(r"alpha ([\d.]+)", log)] == pytest.approx(
        [1, 1 / 3, 0.01], abs=1e-4)
    losses = [float(value) for value in re.findall(r"train_loss (\S+)", log)]
    assert len(losses) == 3 and np.isfinite(losses).all()

    results, = (folder / "results").rglob(f"nnUNetTrainerTiny__*__{configuration}")
    assert list((results / "fold_0" / "validation").glob("case_*.nii.gz"))


def test_at_alpha_1_the_loss_is_nnunets_own_and_at_0_the_boundary_loss(
        trainers, installed, monkeypatch):
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.syspath_prepend(str(trainers))
    from nnUNetTrainerBoundary import WithBoundary

    dice = {"batch_dice": True, "do_bg": False, "ddp": False}
    own = DeepSupervisionWrapper(DC_and_CE_loss(dice, {}), [2 / 3, 1 / 3])
    loss = WithBoundary(own, 2, [2.0, 1.0, 1.0])
    label = torch.zeros(2, 1, 8, 16, 16)
    label[0, 0, 2:5, 4:9, 4:9] = 1
    logits = [torch.randn(2, 2, 8, 16, 16), torch.randn(2, 2, 4, 8, 8)]
    target = [label, label[..., ::2, ::2, ::2]]

    loss.alpha = 1
    assert torch.equal(loss(logits, target), own(logits, target))
    loss.alpha = 0
    maps = torch.stack([loss_map(one) for one in label[:, 0]])
    expected = (logits[0].softmax(1)[:, 1] * maps).mean()
    torch.testing.assert_close(loss(logits, target), expected)


def loss_map(label):
    """phi of one label, slices two units apart."""
    from distance import signed_distance
    return torch.from_numpy(signed_distance(label.numpy() == 1, (2, 1, 1)))
