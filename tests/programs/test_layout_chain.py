"""The whole chain in layouts that people have: preprocess.py, main.py, predict.py on new scans."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from conftest import refuses, run, train
from raw_folders import TOML, write_bids, write_image, write_nnunet, write_toml
from utils import read_csv

SCANS = ("sub-1_ses-a", "sub-1_ses-b", "sub-2", "sub-3")


def write_own(root):
    for name in ("a", "b", "c"):
        write_image(root / name / "flair.nii.gz", seed=ord(name))
        write_image(root / name / "seg.nii.gz", (1,))


def write_raw(layout, folder):
    """Scans in a layout; returns (--layout, folder of the scans, their names)."""
    raw = folder / "raw"
    if layout == "nnunet":
        write_nnunet(raw / "Dataset001_X")
        return layout, raw, ["c_0000", "c_0001", "c_0002"]
    if layout == "bids":
        write_bids(raw, SCANS)
        return layout, raw, list(SCANS)
    write_own(raw)
    return write_toml(folder), raw, ["a", "b", "c"]


def preprocess(layout, raw, out, *more):
    result = run("preprocess.py", "--layout", layout, "--raw", raw, "--out", out, "--size", 32,
                 *more)
    assert result.returncode == 0, result.stderr
    return result


def predict(model, out, *scans):
    return run("predict.py", "--checkpoint", model, "--out", out, *scans)


@pytest.fixture(scope="module", params=["nnunet", "bids", "toml"])
def trained(tmp_path_factory, request):
    """(layout, raw, names of the scans, folder with data/ and run/) after one epoch."""
    folder = tmp_path_factory.mktemp(request.param)
    layout, raw, names = write_raw(request.param, folder)
    preprocess(layout, raw, folder / "data")
    result = train(folder / "data", folder / "run", epochs=1)
    assert result.returncode == 0, result.stderr
    return layout, raw, names, folder


def test_the_chain_gives_the_masks_of_the_scans(trained, tmp_path):
    _, raw, names, folder = trained
    result = predict(folder / "run" / "best.pt", tmp_path, raw)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.glob("*.nii.gz")) == [
        f"{name}.nii.gz" for name in names]
    for own in (folder / "run" / "predictions").iterdir():
        assert np.array_equal(np.asanyarray(nib.load(own).dataobj),
                              np.asanyarray(nib.load(tmp_path / own.name).dataobj))


def test_one_scan_alone_is_predicted_without_the_layouts_file(trained, tmp_path):
    _, raw, names, folder = trained
    part = {"c_0000": "Dataset001_X/imagesTr", "sub-1_ses-a": "sub-1", "a": "a"}[names[0]]
    result = predict(folder / "run" / "best.pt", tmp_path, raw / part)
    assert result.returncode == 0, result.stderr
    assert f"{names[0]}.nii.gz" in [path.name for path in tmp_path.iterdir()]


def test_a_folder_is_finished_by_the_same_layout_and_refused_by_another(trained, tmp_path):
    layout, raw, _, folder = trained
    before = (folder / "data" / "dataset.json").read_bytes()
    preprocess(layout, raw, folder / "data")
    assert (folder / "data" / "dataset.json").read_bytes() == before
    other = write_toml(tmp_path, TOML.replace('"flair', '"f[l]air'), "my.toml")
    write_own(tmp_path / "own")
    refuses(run("preprocess.py", "--layout", other, "--raw", tmp_path / "own", "--out",
                folder / "data", "--size", 32), "a data set with another layout", "my:")


def test_the_same_scans_give_the_same_arrays_in_every_layout(tmp_path):
    for name in ("a", "b", "c"):
        for number, kind in enumerate(("flair", "seg")):
            image = tmp_path / "own" / name / f"{kind}.nii.gz"
            write_image(image, (1,) * number, seed=ord(name))
            bids = f"sub-{name}/anat/sub-{name}_{('FLAIR', 'mask')[number]}.nii.gz"
            for path in (tmp_path / "nnunet" / ("imagesTr", "labelsTr")[number]
                         / f"{name}{('_0000', '')[number]}.nii.gz",
                         tmp_path / "bids" / ("", "derivatives/x")[number] / bids):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(image, path)
    (tmp_path / "nnunet" / "dataset.json").write_text(
        '{"channel_names": {"0": "FLAIR"}, "labels": {"background": 0, "lesion": 1}}')

    arrays = []
    for layout in (write_toml(tmp_path), "nnunet", "bids"):
        name = layout if isinstance(layout, str) else "own"
        preprocess(layout, tmp_path / name, tmp_path / "data" / name)
        scans = sorted((tmp_path / "data" / name / "subjects").iterdir())
        arrays.append([(scan / f"{kind}.npy").read_bytes() for scan in scans
                       for kind in ("images", "labels", "distance")])
    assert arrays[0] == arrays[1] == arrays[2]


def test_sessions_of_a_subject_stay_on_one_side(tmp_path):
    write_bids(tmp_path / "raw", SCANS)
    for seed in range(4):
        out = tmp_path / f"data{seed}"
        preprocess("bids", tmp_path / "raw", out, "--seed", seed, "--val", 2)
        split = {row["subject"]: row["subset"] for row in read_csv(out / "split.csv")}
        assert split["sub-1_ses-a"] == split["sub-1_ses-b"]


def test_scans_of_imagests_are_predicted_by_their_nnunet_names(tmp_path):
    root = tmp_path / "raw"
    write_nnunet(root)
    preprocess("nnunet", root, tmp_path / "data")
    assert train(tmp_path / "data", tmp_path / "run", epochs=1).returncode == 0
    for channel in range(2):
        write_image(root / "imagesTs" / f"new_{channel:04d}.nii.gz", seed=channel)
    predict(tmp_path / "run" / "best.pt", tmp_path / "masks", root / "imagesTs")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["new.nii.gz"]
    predict(tmp_path / "run" / "best.pt", tmp_path / "all", root)
    assert len(list((tmp_path / "all").iterdir())) == 4


def test_what_nnunets_evaluation_ignores_is_255_in_the_references(tmp_path):
    write_nnunet(tmp_path / "raw", values=(3, 7),
                 labels={"background": 0, "lesion": 3, "ignore": 7})
    preprocess("nnunet", tmp_path / "raw", tmp_path / "data")
    image = nib.load(tmp_path / "data" / "references" / "c_0000.nii.gz")
    assert np.unique(np.asanyarray(image.dataobj)).tolist() == [0, 1, 255]
    described = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert described["layout"] == "nnunet" and described["ignore"] == [7]


def test_data_folders_below_the_scans_are_never_scans_whatever_the_pattern(tmp_path):
    raw = tmp_path / "raw"
    for name in ("p1", "p2"):
        write_image(raw / "images" / f"{name}.nii.gz")
        write_image(raw / "masks" / "deep" / f"{name}.nii.gz", (1,))
    path = write_toml(tmp_path, TOML.replace("flair.nii*", "images/*.nii*")
                      .replace("seg.nii*", "[mr]*/**/p*.nii*")
                      + "scan_name = '/(p[0-9])'\none_patient = false\n")
    for out in (raw / "r", raw / "r", raw / "references"):
        preprocess(path, raw, out)
        assert len(list((out / "subjects").iterdir())) == 2


def test_data_of_a_layout_in_the_code_are_described_as_before(data):
    described = json.loads((data / "dataset.json").read_text())
    assert described["layout"] == "wmh" and "spec" not in described
