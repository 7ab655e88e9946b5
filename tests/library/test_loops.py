"""The loops of README.md and docs/library.md, run as they stand there, on the installed package."""

import re
import subprocess
import sys

import monai
import nibabel as nib
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from checkout import ROOT
from wheel import install


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return install(tmp_path_factory.mktemp("package"))


def blocks(page, heading):
    """The Python in a section of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)


@pytest.fixture
def package(installed, monkeypatch):
    """Makes `import boundaryloss` find the built package, and forgets it afterwards."""
    monkeypatch.syspath_prepend(str(installed))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "boundaryloss"]:
        del sys.modules[name]


def trained(text, network, **names):
    """Run a loop for two epochs; its loss is finite, and weights have moved."""
    torch.manual_seed(0)
    before = [parameter.clone() for parameter in network.parameters()]
    space = {"network": network, "epochs": 2, **names}
    exec(text, space)
    assert space["loss"].isfinite()
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters()))
    return space


def test_the_loss_of_maps_trains_as_docs_say(package):
    """The step of docs/losses.md, with what stands around it."""
    text, = blocks("docs/losses.md", "In your own training")
    labels = torch.zeros(2, 9, 8, dtype=torch.long)
    labels[0, 2:5, 3:6] = 1
    logits = torch.zeros(2, 2, 9, 8, requires_grad=True)
    space = {"labels": labels.numpy(), "logits": logits, "phi": torch.ones(2, 1, 9, 8),
             "target": torch.nn.functional.one_hot(labels, 2).movedim(-1, 1)}
    exec(text, space)
    space["value"].backward()
    assert logits.grad.abs().sum() > 0 and set(space["terms"]) == {"rwl", "boundary"}


def network_of(dims, channels=1):
    """A network of MONAI's, which like most does not take every size."""
    return monai.networks.nets.UNet(dims, channels, 2, (4, 8, 8), (2, 2))


def loader_of(*shapes):
    """Batches of one image each, of these sizes, with a lesion; the last one without."""
    batches = []
    for shape in shapes:
        label = torch.zeros(1, *shape, dtype=torch.long)
        label[(0, *(slice(size // 3, size // 2 + 1) for size in shape))] = 1
        batches.append((torch.rand(1, 1, *shape) + label, label))
    batches[-1][1].zero_()
    return batches


PLAIN = [("docs/library.md", "A plain loop"), ("README.md", "The losses in your own training")]


@pytest.mark.parametrize("page, heading", PLAIN)
@pytest.mark.parametrize("name, shapes", [
    ("unet", [(40, 33), (25, 48), (32, 32)]), ("unet3d", [(10, 16, 16), (7, 9, 24), (9, 16, 8)])])
def test_the_plain_loop_trains_on_slices_and_volumes_of_any_size(package, page, heading, name,
                                                                 shapes):
    from boundaryloss import networks
    trained(blocks(page, heading)[0], networks.build(name, 1, 2, width=2),
            loader=loader_of(*shapes))


def test_the_plain_loop_takes_whole_batches(package):
    from boundaryloss import networks
    label = torch.zeros(4, 16, 16, dtype=torch.long)
    label[:3, 4:9, 5:12] = 1
    batches = DataLoader(TensorDataset(torch.rand(4, 1, 16, 16), label), batch_size=2)
    trained(blocks(*PLAIN[0])[0], networks.build("unet", 1, 2, width=2), loader=batches)


def scan(folder, name, shape, spacing):
    """An image and a label as WMH has them: 1, 2 for what is no lesion, stored with rounding."""
    label = np.zeros(shape, np.float32)
    label[tuple(slice(size // 3, size // 2 + 1) for size in shape)] = 1.0000153
    label[(0,) * len(shape)] = 2
    image = label + np.random.default_rng(0).normal(size=shape).astype(np.float32)
    affine = np.diag([*spacing, *[1] * (4 - len(spacing))])
    paths = {}
    for key, values in (("image", image), ("label", label)):
        paths[key] = folder / f"{name}_{key}.nii.gz"
        nib.save(nib.Nifti1Image(values, affine), paths[key])
    return paths


VOLUMES = [((20, 24, 23), (1.0, 1.0, 3.0)), ((25, 18, 24), (0.9, 1.2, 2.0)),
           ((40, 30, 8), (1.0, 1.0, 3.0))]
SLICES = [((20, 24), (1.0, 1.0)), ((33, 18), (0.9, 1.2))]


@pytest.mark.parametrize("scans, size", [(VOLUMES, "(16, 24, 16)"), (SLICES, "(32, 32)")])
def test_monais_loop_trains_on_scans_of_unequal_sizes(package, tmp_path, scans, size):
    text, = blocks("docs/library.md", "With MONAI")
    files = [scan(tmp_path, number, *one) for number, one in enumerate(scans)]
    text = re.sub(r"^size = \(.*?\)", f"size = {size}", text, flags=re.M)
    space = trained(text, network_of(len(scans[0][0])), files=files)

    lengths = [len(batch["label"]) for batch in space["loader"]]
    assert sum(lengths) == len(scans) and max(lengths) == 2
    assert all(batch["distance"].shape[2:] == space["size"] for batch in space["loader"])


def test_monais_loop_trains_on_the_phantoms_volumes_as_they_stand(package, tmp_path):
    subprocess.run([sys.executable, "-m", "scans.phantom", "--layout", "wmh", "--out", tmp_path,
                    "--subjects", "3", "--test", "0", "--size", "32", "--slices", "7"],
                   cwd=ROOT, check=True, capture_output=True)
    folders = [path.parent for path in sorted(tmp_path.rglob("wmh.nii.gz"))]
    files = [{"image": folder / "pre" / "FLAIR.nii.gz", "label": folder / "wmh.nii.gz"}
             for folder in folders]
    assert len({nib.load(pair["label"]).shape for pair in files}) > 1

    text, = blocks("docs/library.md", "With MONAI")
    trained(text, network_of(3), files=files)
