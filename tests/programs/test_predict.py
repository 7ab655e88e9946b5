"""predict.py: the run's own masks again, scans found by layout and name, what is missing."""

import gzip
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

import predict
from conftest import preprocess, refuses, run, write_wmh_subject
from main import main as train
from networks import build
from scans import unlabelled
from scans.resampling import export_predictions
from training import best_model, devices, ensemble


@pytest.fixture(scope="module", params=["off", "bf16"])
def trained(tmp_path_factory, request):
    """A folder with raw/, data/ and run/: six scans of 20x24x5, two of them for validation."""
    root = tmp_path_factory.mktemp("trained")
    for number in range(6):
        write_wmh_subject(root / "raw" / f"s{number}", seed=number)
    assert preprocess(root / "raw", root / "data").returncode == 0

    native = {"avx512_bf16"} if request.param == "bf16" else set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "cpu_flags", lambda: native)
        assert train(["--data", str(root / "data"), "--out", str(root / "run"), "--loss", "gdl",
                      "--width", "4", "--epochs", "12", "--lr", "0.01", "--quiet", "--threads", "1",
                      "--amp", request.param]) == 0
        yield root


@pytest.fixture
def masks(trained, tmp_path):
    """A function that calls predict.py with the trained network on these places.

    It returns (result, folder of the masks).
    """
    def predict_these(*words):
        out = tmp_path / "masks"
        return run("predict.py", "--checkpoint", trained / "run" / "best.pt", "--out", out,
                   *words), out

    return predict_these


def validation(trained):
    """The run's own masks of the validation scans."""
    return sorted((trained / "run" / "predictions").iterdir())


def voxels(path):
    return np.asanyarray(nib.load(path).dataobj)


def test_a_validation_scan_gives_the_runs_own_mask_voxel_for_voxel(trained, masks):
    result, folder = masks(trained / "raw")
    assert result.returncode == 0, result.stderr
    assert len(list(folder.glob("*.nii.gz"))) == 6 and len(validation(trained)) == 2
    for own in validation(trained):
        assert voxels(own).any()  # else everything would be equal
        assert np.array_equal(voxels(folder / own.name), voxels(own))
        assert np.array_equal(nib.load(folder / own.name).affine, nib.load(own).affine)


def test_scans_that_training_would_warn_of_are_warned_of_here_too(masks, tmp_path):
    """One of two is of sagittal slices, and has padding far below all else."""
    for name, affine in (("s1", np.diag([8.0, 1.4, 1.4, 1])), ("s2", np.diag([1.0, 1, 3, 1]))):
        write_wmh_subject(tmp_path / name, affine=affine)
    path = tmp_path / "s1" / "pre" / "FLAIR.nii.gz"
    image = nib.load(path)
    padded = np.asarray(image.dataobj, np.float32)
    padded[0] = -32768
    nib.save(nib.Nifti1Image(padded, image.affine), path)
    result, _ = masks(tmp_path)
    assert result.returncode == 0, result.stderr
    assert "warning: 1 of 2 scans (s1) were acquired in slices across x or y" in result.stderr
    assert f"warning: {path}: its least value, -32768, is far below" in result.stderr
    assert result.stderr.count("warning: ") == 2


def test_a_precision_that_the_processor_emulates_is_not_taken_and_that_is_said(
    trained, masks, monkeypatch
):
    amp = torch.load(trained / "run" / "best.pt")["amp"]
    monkeypatch.setattr(devices, "cpu_flags", set)
    taken = []
    logits_of = ensemble.logits_of
    monkeypatch.setattr(ensemble, "logits_of", lambda *words: taken.append(words[2])
                        or logits_of(*words))

    result, _ = masks(trained / "raw" / "s0")
    said = "trained in bfloat16, predicted in float32" in result.stdout
    assert said == (amp == "bfloat16") and set(taken) == {None}
    taken.clear()
    masks("--amp", "bf16", trained / "raw" / "s0")
    assert set(taken) == {torch.bfloat16}  # asked for


def test_of_a_scan_in_the_middle_of_its_slices_the_masks_are_its_own_size(trained, tmp_path):
    """A network of the same weights, told that scans fill 20 of 32 pixels."""
    assert preprocess(trained / "raw", tmp_path / "data", "--fill", 20).returncode == 0
    state = torch.load(trained / "run" / "best.pt", weights_only=True)
    torch.save({**state, "data": {**state["data"], "fill": 20}}, tmp_path / "best.pt")
    result = run("predict.py", "--checkpoint", tmp_path / "best.pt", "--out", tmp_path / "masks",
                 "--probabilities", "--preview", trained / "raw" / "s0")
    assert result.returncode == 0, result.stderr
    soft = voxels(tmp_path / "masks" / "probabilities" / "s0.nii.gz")
    found = voxels(tmp_path / "masks" / "s0.nii.gz")
    assert found.any() and np.array_equal(soft > 0.5, found == 1)

    # what main.py writes of the network's masks of the preprocessed slices
    cpu, amp = torch.device("cpu"), None if state["amp"] == "float32" else torch.bfloat16
    members = [member._replace(amp=amp)
               for member in ensemble.load_members([tmp_path / "best.pt"], cpu)]
    slices = np.load(tmp_path / "data" / "subjects" / "s0" / "images.npy")
    masks = ensemble.segment(members, cpu, slices)[0]
    export_predictions({"s0": masks}, tmp_path / "data", tmp_path / "predictions")
    assert np.array_equal(voxels(tmp_path / "predictions" / "s0.nii.gz"), found)
    assert "the scan in the middle 20" in run(
        "predict.py", "--checkpoint", tmp_path / "best.pt", "--describe").stdout


def test_another_orientation_of_the_scan_gives_the_same_mask_turned(trained, masks, tmp_path):
    name = validation(trained)[0].name.removesuffix(".nii.gz")
    turned, wanted = tmp_path / "turned", nib.orientations.axcodes2ornt("PIL")
    for modality in ("FLAIR", "T1"):
        image = nib.load(trained / "raw" / name / "pre" / f"{modality}.nii.gz")
        to = nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)
        (turned / name / "pre").mkdir(parents=True, exist_ok=True)
        nib.save(image.as_reoriented(to), turned / name / "pre" / f"{modality}.nii.gz")

    _, folder = masks(turned)
    mask = nib.load(folder / f"{name}.nii.gz")
    assert nib.aff2axcodes(mask.affine) == ("P", "I", "L")
    upright = np.asanyarray(nib.as_closest_canonical(mask).dataobj)
    assert np.array_equal(upright, voxels(validation(trained)[0]))


def test_probabilities_above_one_half_are_the_mask_in_the_scans_own_grid(trained, masks):
    _, folder = masks("--probabilities", trained / "raw" / "s0")
    mask = nib.load(folder / "s0.nii.gz")
    soft = nib.load(folder / "probabilities" / "s0.nii.gz")
    assert soft.shape == (20, 24, 5) and np.array_equal(soft.affine, mask.affine)
    assert soft.get_data_dtype() == np.float32

    values = np.asanyarray(soft.dataobj)
    assert values.min() >= 0 and values.max() <= 1
    assert np.array_equal(values > 0.5, np.asanyarray(mask.dataobj) == 1)


def test_masks_beside_probabilities_and_previews_are_scored(trained, masks):
    masks("--probabilities", "--preview", trained / "raw")
    _, folder = masks("--probabilities", "--preview", trained / "raw")
    assert (folder / "previews" / "s0.png").read_bytes().startswith(b"\x89PNG")
    scored = run("evaluate.py", "--predictions", folder, "--references", trained / "raw",
                 "--ignore", 2)
    assert scored.returncode == 0 and "6 scans" in scored.stdout, scored.stderr


def test_the_volume_is_printed_in_ml(trained, masks):
    result, folder = masks(trained / "raw" / "s0")
    count = np.count_nonzero(voxels(folder / "s0.nii.gz"))
    assert f"s0: {count * 3 / 1000:.2f} ml in" in result.stdout  # 1x1x3 mm


@pytest.mark.parametrize("names", [
    ("x_FLAIR", "x_T1"), ("x-flair", "x-t1"), ("x_0000", "x_0001"), ("FLAIR", "T1")])
def test_files_are_told_apart_by_their_names(trained, masks, tmp_path, names):
    folder = tmp_path / "x"
    folder.mkdir()
    for name, modality in zip(names, ("FLAIR", "T1"), strict=True):
        shutil.copy(trained / "raw" / "s0" / "pre" / f"{modality}.nii.gz",
                    folder / f"{name}.nii.gz")

    whole, out = masks(folder)
    assert whole.returncode == 0, whole.stderr
    mask = (out / "x.nii.gz").read_bytes()
    masks(trained / "raw" / "s0")
    assert mask == (out / "s0.nii.gz").read_bytes()

    assert masks(*sorted(folder.iterdir(), reverse=True))[0].returncode == 0  # files, in any order
    assert (out / "x.nii.gz").read_bytes() == mask


def test_the_longer_name_of_two_modalities_is_meant():
    files = [Path("p/a_CT.nii"), Path("p/a_CT_CBF.nii.gz")]
    found = unlabelled.scans_of_files(files, ["CT", "CT_CBF"])
    assert found == {"a": {"CT": [files[0]], "CT_CBF": [files[1]]}}


def test_with_one_modality_any_name_is_a_scan():
    assert list(unlabelled.scans_of_files([Path("p/whatever.nii")], ["FLAIR"])) == ["whatever"]


def test_beside_files_that_name_the_only_modality_others_are_no_scans(tmp_path, capsys):
    for name in ("a_FLAIR.nii.gz", "a_T1.nii.gz", "a_seg.nii.gz", "b_FLAIR.nii.gz"):
        (tmp_path / name).touch()
    found = unlabelled.scans_of_folder(tmp_path, SimpleNamespace(layout="", modalities=["FLAIR"]))
    assert list(found) == ["a", "b"]
    assert "left out: 2 files whose names do not end with FLAIR or 0000, as others do: " \
        f"{tmp_path / 'a_T1.nii.gz'}, ..." in capsys.readouterr().out


def test_hidden_files_are_no_scans(tmp_path):
    for name in ("a.nii.gz", "._a.nii.gz"):
        (tmp_path / name).touch()
    found = unlabelled.scans_of_folder(tmp_path, SimpleNamespace(layout="", modalities=["FLAIR"]))
    assert found == {"a": {"FLAIR": [tmp_path / "a.nii.gz"]}}


def test_a_missing_modality_is_named_and_nothing_is_segmented(trained, masks, tmp_path):
    shutil.copytree(trained / "raw", tmp_path / "raw")
    (tmp_path / "raw" / "s1" / "pre" / "T1.nii.gz").unlink()
    result, folder = masks(tmp_path / "raw")
    refuses(result, f"s1 in {tmp_path / 'raw' / 's1' / 'pre'}", "one image each of FLAIR, T1",
            "no T1", "trained on all")
    assert not folder.exists()


def test_two_files_of_one_modality_are_named(trained, masks, tmp_path):
    shutil.copytree(trained / "raw", tmp_path / "raw")
    folder = tmp_path / "raw" / "s1" / "pre"
    nib.save(nib.load(folder / "T1.nii.gz"), folder / "T1.nii")
    refuses(masks(tmp_path / "raw")[0], f"s1 in {folder}", "T1.nii", "T1.nii.gz for T1",
            "Keep one of them")


def test_scans_of_one_name_in_two_folders_are_named_with_their_folders(trained, masks, tmp_path):
    """Two patients may well be called s1: neither is a copy of the other."""
    shutil.copytree(trained / "raw", tmp_path / "site2")
    result, _ = masks(trained / "raw" / "s1", tmp_path / "site2" / "s1")
    refuses(result, trained / "raw" / "s1" / "pre" / "FLAIR.nii.gz",
            tmp_path / "site2" / "s1" / "pre" / "FLAIR.nii.gz", "rename one if they are of two")


@pytest.mark.parametrize("patch, words", [
    (None, ["8 slices", "Lower --batch-size"]),
    ([8, 16, 16], ["a patch of 8x16x16", "--device cpu"])])
def test_too_little_memory_is_one_line_with_what_helps(trained, masks, monkeypatch, patch, words):
    def fill(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    path = trained / "run" / "best.pt"
    network, model = best_model.load_model(path, torch.device("cpu"))
    model = model.model_copy(update={"patch": patch})
    monkeypatch.setattr(ensemble, "load_model", lambda path, device: (network, model))
    monkeypatch.setattr(predict, "predict_scan", fill)
    refuses(masks(trained / "raw" / "s0")[0], "cpu: expected memory for", *words)


def test_all_scans_without_a_modality_are_listed(trained, masks, tmp_path):
    shutil.copytree(trained / "raw", tmp_path / "raw")
    for name in ("s1", "s4"):
        (tmp_path / "raw" / name / "pre" / "FLAIR.nii.gz").unlink()
    result, _ = masks(tmp_path / "raw")
    refuses(result, "2 of 6 incomplete")
    for name in ("s1", "s4"):
        assert f"{name} in {tmp_path / 'raw' / name / 'pre'}: expected" in result.stderr


def test_a_damaged_scan_is_left_out_and_the_others_are_segmented(trained, masks, tmp_path):
    shutil.copytree(trained / "raw", tmp_path / "raw")
    (tmp_path / "raw" / "s2" / "pre" / "T1.nii.gz").write_bytes(b"not an image")
    result, folder = masks(tmp_path / "raw")
    refuses(result, "expected 6 masks, found 5")
    assert "s2 left out" in result.stderr
    written = sorted(path.name for path in folder.iterdir())
    assert written == [f"s{k}.nii.gz" for k in (0, 1, 3, 4, 5)]


def test_a_scan_on_which_the_network_is_not_finite_is_left_out(trained, tmp_path):
    state = torch.load(trained / "run" / "best.pt", weights_only=True)
    last = [name for name in state["network"] if name.endswith("bias")][-1]
    state["network"][last] = state["network"][last] + 1e5  # more than float16 can hold
    torch.save(state, tmp_path / "large.pt")
    predict_it = ("predict.py", "--checkpoint", tmp_path / "large.pt", trained / "raw" / "s0",
                  "--device", "cpu", "--probabilities", "--out")
    result = run(*predict_it, tmp_path / "fp16", "--amp", "fp16")
    refuses(result, "expected 1 masks, found 0")
    assert "the network: expected finite network outputs on this scan, " in result.stderr
    assert not list((tmp_path / "fp16").rglob("*.nii.gz"))
    assert run(*predict_it, tmp_path / "fp32", "--amp", "off").returncode == 0


def test_modalities_on_two_grids_are_refused(trained, masks, tmp_path):
    shutil.copytree(trained / "raw" / "s0", tmp_path / "s0")
    other = np.arange(2000, dtype=np.float32).reshape(20, 20, 5)
    nib.save(nib.Nifti1Image(other, np.eye(4)), tmp_path / "s0" / "pre" / "T1.nii.gz")
    result, _ = masks(tmp_path / "s0")
    refuses(result)
    assert "expected shape (20, 24, 5) as the FLAIR image, found (20, 20, 5)" in result.stderr


@pytest.mark.parametrize("change, words", [
    (lambda state: {}, "no network, build, data"),
    (lambda state: [1], "no network"),
    (lambda state: {**state, "normalisation": "z-score"}, "z-score"),
    (lambda state: {**state, "network": {name: weight * np.nan if weight.is_floating_point() else
                                         weight for name, weight in state["network"].items()}},
     "expected finite weights"),
    (lambda state: {**state, "build": ["unet", 2, 2, 8]}, "a network of this code"),
    (lambda state: {**state, "build": ["enet", 2, 2, 4]}, "a network of this code")])
def test_a_checkpoint_of_other_content_is_refused(trained, tmp_path, change, words):
    state = torch.load(trained / "run" / "best.pt", weights_only=True)
    torch.save(change(state), tmp_path / "other.pt")
    refuses(run("predict.py", "--checkpoint", tmp_path / "other.pt", "--out", tmp_path / "m",
                trained / "raw"), words)


def test_a_file_that_is_not_a_checkpoint_is_refused(trained, tmp_path):
    (tmp_path / "a.pt").write_text("hello")
    refuses(run("predict.py", "--checkpoint", tmp_path / "a.pt", "--out", tmp_path / "m",
                trained / "raw"), "a.pt", "not one")


def test_places_without_scans_are_refused(trained, masks, tmp_path):
    (tmp_path / "empty").mkdir()
    refuses(masks(tmp_path / "empty")[0], "pre/FLAIR.nii*", "<scan>_FLAIR.nii.gz")
    refuses(masks(tmp_path / "nowhere")[0], "nothing there")
    refuses(masks(trained / "raw" / "s0" / "wmh.nii.gz")[0], "wmh.nii.gz", "FLAIR, T1")
    refuses(masks()[0], "at least one scan")


def test_a_checkpoint_says_what_it_holds(trained):
    result = run("predict.py", "--checkpoint", trained / "run" / "best.pt", "--describe")
    for word in ("unet of width 4", "FLAIR, T1", "1 lesion", "32 px", "min-max"):
        assert word in result.stdout


def test_several_classes_give_a_volume_of_probabilities_each(tmp_path):
    torch.manual_seed(0)
    network = build("unet", 1, 3, 2)
    with torch.no_grad():  # let every class win somewhere
        list(network.parameters())[-1].copy_(torch.tensor([-0.4, 0.4, 0.4]))
    data = {"modalities": ["FLAIR"], "layout": "mine", "classes": ["background", "a", "b"],
            "size": 32, "source": "own"}
    state = {"network": network.state_dict(), "build": ["unet", 1, 3, 2], "data": data}
    torch.save(state, tmp_path / "best.pt")
    image = np.random.default_rng(0).normal(size=(20, 24, 4)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "p.nii")

    result = run("predict.py", "--checkpoint", tmp_path / "best.pt", "--out", tmp_path / "m",
                 "--probabilities", "--amp", "off", tmp_path / "p.nii")
    assert result.returncode == 0, result.stderr
    mask = voxels(tmp_path / "m" / "p.nii.gz")
    volumes = [f"{name} {np.count_nonzero(mask == k) / 1000:.2f} ml"  # 1 mm voxels
               for k, name in ((1, "a"), (2, "b"))]
    assert f"p: {', '.join(volumes)} in 4 of 4 slices" in result.stdout

    soft = voxels(tmp_path / "m" / "probabilities" / "p.nii.gz")
    assert soft.shape == (20, 24, 4, 2)
    whole = np.concatenate([1 - soft.sum(-1, keepdims=True), soft], -1)
    assert np.array_equal(whole.argmax(-1), mask) and len(np.unique(mask)) > 1


@pytest.mark.parametrize("codes", [(0, 2), (0, 0), (1, 0), (1, 1)])
def test_all_that_is_written_lies_where_simpleitk_sees_the_scan(trained, masks, tmp_path, codes):
    shutil.copytree(trained / "raw" / "s0", tmp_path / "s0")
    for path in tmp_path.glob("s0/pre/*.nii.gz"):
        image = nib.Nifti1Image(voxels(path).copy(), None)
        image.set_qform(np.diag([-0.8, -0.9, 5, 1]), 1)
        image.set_sform(np.eye(4) if codes == (0, 2) else np.diag([-0.8, -0.9, 5, 1]), 1)
        whole = bytearray(image.to_bytes())
        whole[252:256] = np.array(codes, "<i2").tobytes()
        path.write_bytes(gzip.compress(whole))

    result, folder = masks("--probabilities", tmp_path / "s0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("note: ") == (codes in ((0, 2), (0, 0)))
    scan = SimpleITK.ReadImage(str(path))
    for name in ("s0.nii.gz", "probabilities/s0.nii.gz"):
        written = SimpleITK.ReadImage(str(folder / name))
        for what in ("GetOrigin", "GetDirection", "GetSpacing", "GetSize"):
            assert getattr(written, what)() == getattr(scan, what)(), (name, what)
    count = np.count_nonzero(voxels(folder / "s0.nii.gz"))
    assert f"s0: {count * 0.8 * 0.9 * 5 / 1000:.2f} ml in" in result.stdout


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_mask_of_the_cpu(trained, masks):
    _, folder = masks("--device", "cpu", "--amp", "off", trained / "raw")
    cpu = {path.name: voxels(path).copy() for path in folder.glob("*.nii.gz")}
    masks("--device", "cuda", "--amp", "off", trained / "raw")
    for name, mask in cpu.items():
        assert (voxels(folder / name) == mask).mean() > 0.999


# --resume -----------------------------------------------------------------------------------------

def age(folder, seconds):
    """Make every file below a folder so many seconds older."""
    for path in folder.rglob("*.nii.gz"):
        os.utime(path, (path.stat().st_atime - seconds, path.stat().st_mtime - seconds))


def test_resume_makes_the_missing_masks_alone(trained, masks):
    full, folder = masks(trained / "raw", "--resume")
    assert full.stdout.count(" slices") == 6
    (folder / "s2.nii.gz").unlink()
    again, _ = masks(trained / "raw", "--resume")
    assert [line for line in again.stdout.splitlines() if " slices" in line][0].startswith("s2: ")
    assert again.stdout.count(" slices") == 1 and "5 of 6 masks are there" in again.stdout
    nothing, _ = masks(trained / "raw", "--resume")
    assert nothing.returncode == 0 and nothing.stdout.count(" slices") == 0


def test_resume_repeats_the_masks_of_another_checkpoint(trained, masks, tmp_path):
    _, folder = masks(trained / "raw" / "s0")
    state = torch.load(trained / "run" / "best.pt", weights_only=True)
    torch.save({**state, "epoch": 99}, tmp_path / "other.pt")
    result = run("predict.py", "--checkpoint", tmp_path / "other.pt", "--out", folder, "--resume",
                 trained / "raw" / "s0")
    assert result.stdout.count(" slices") == 1, result.stderr


def test_resume_draws_the_preview_of_another_checkpoint_again(trained, masks, tmp_path):
    _, folder = masks(trained / "raw" / "s0", "--preview")
    other = torch.load(trained / "run" / "best.pt") | {"epoch": 99}
    torch.save(other, tmp_path / "other.pt")
    words = ("predict.py", "--checkpoint", tmp_path / "other.pt", "--out", folder, "--resume")
    run(*words, trained / "raw" / "s0")  # the mask alone
    result = run(*words, "--preview", trained / "raw" / "s0")
    assert result.returncode == 0 and "are there" not in result.stdout
    again = run(*words, "--preview", trained / "raw" / "s0")
    assert "1 of 1 masks are there" in again.stdout


def test_resume_repeats_a_mask_of_another_precision(trained, masks):
    scan, described = trained / "raw" / "s0", "boundaryloss, by predict.py, model "
    trained_in = torch.load(trained / "run" / "best.pt")["amp"]
    for amp, short in (("off", "fp32"), ("bf16", "bf16"), ("fp16", "fp16")):
        for count in (1, 0):
            result, folder = masks(scan, "--resume", "--amp", amp, "--device", "cpu")
            assert result.stdout.count(" slices") == count, (amp, result.stderr)
        header = nib.load(folder / "s0.nii.gz").header["descrip"].item().decode()
        same = {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}[amp] == trained_in
        assert header[len(described) + 16:] == ("" if same else f", {short}")


def test_resume_repeats_the_mask_of_a_scan_that_is_newer(trained, masks, tmp_path):
    shutil.copytree(trained / "raw" / "s0", tmp_path / "scans" / "s0")
    _, folder = masks(tmp_path / "scans")
    age(folder, 3600)
    assert masks(tmp_path / "scans", "--resume")[0].stdout.count(" slices") == 1
    assert masks(tmp_path / "scans", "--resume")[0].stdout.count(" slices") == 0


def test_resume_repeats_a_scan_whose_other_outputs_are_missing(trained, masks):
    words = (trained / "raw" / "s0", "--resume", "--probabilities")
    masks(trained / "raw" / "s0")
    assert masks(*words)[0].stdout.count(" slices") == 1
    assert masks(*words)[0].stdout.count(" slices") == 0


@pytest.mark.parametrize("program", ["nibabel", "SimpleITK"])
def test_a_mask_that_was_corrected_by_hand_is_not_overwritten(trained, masks, program):
    _, folder = masks(trained / "raw" / "s0")
    path = folder / "s0.nii.gz"
    assert masks(trained / "raw" / "s0")[0].returncode == 0  # as it was written it is replaced
    if program == "nibabel":
        image = nib.load(path)
        voxels = np.asanyarray(image.dataobj).copy()
        voxels[0, 0, 0] ^= 1
        nib.save(nib.Nifti1Image(voxels, image.affine, image.header), path)
    else:
        image = SimpleITK.ReadImage(path)
        image[0, 0, 0] = 1 - image[0, 0, 0]
        SimpleITK.WriteImage(image, path)
    before = path.read_bytes()
    refuses(masks(trained / "raw" / "s0")[0], "masks/s0.nii.gz", "one that was changed since")
    assert path.read_bytes() == before


def test_resume_still_refuses_a_mask_of_somebody_else(trained, masks, tmp_path):
    (tmp_path / "masks").mkdir()
    shutil.copy(trained / "raw" / "s0" / "wmh.nii.gz", tmp_path / "masks" / "s0.nii.gz")
    refuses(masks(trained / "raw" / "s0", "--resume")[0], "masks/s0.nii.gz", "another file")
