"""Damaged and made-up files are refused in one line with status 2, or read with an equal result.

What `make fuzz` found stays found.
"""

import contextlib
import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fuzz
import fuzz_inputs
import fuzz_targets
from conftest import preprocess, refuses, run, train, write_wmh_subject
from scans.nifti import MAX_VOXELS, read_volume
from scans.transfer import check_inside
from training import checkpoint
from utils import UserError, read_json

FEW = settings(max_examples=20, derandomize=True, deadline=None, database=None,
               suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    here, folder = os.getcwd(), tmp_path_factory.mktemp("valid")
    try:
        fuzz_targets.make_valid(folder)
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def target(request, valid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return fuzz_targets.prepare(request.param, valid, tmp_path / "folder")


@st.composite
def damages(draw):
    """A function of bytes: cut, flip bits, write a byte, or double a part, anywhere."""
    edit = st.tuples(st.sampled_from(("cut", "flip", "byte", "double")),
                     st.floats(0, 1),         # place, as a share of the length
                     st.integers(0, 255))
    edits = draw(st.lists(edit, min_size=1, max_size=3))

    def do(content):
        content = bytearray(content)
        for kind, share, number in edits:
            at = min(int(share * len(content)), len(content) - 1)
            if kind == "cut":
                del content[max(at, 1):]
            elif kind == "double":
                content[at:at] = content[at:at + number]
            else:
                content[at] = number if kind == "byte" else content[at] ^ 1 << number % 8
        return bytes(content)
    return do


def test_every_target_has_its_share_of_the_executions():
    assert set(fuzz.SHARES) == set(fuzz_targets.TARGETS)
    assert sum(fuzz.SHARES.values()) == pytest.approx(100)


@pytest.mark.parametrize("target", ["nifti", "archives", "tables", "checkpoints", "runs", "data"],
                         indirect=True)
@FEW
@given(st.data())
def test_a_damaged_file_is_refused_in_one_line_or_taken(target, data):
    seed = data.draw(st.sampled_from(target.seeds))
    target(seed[:1] + data.draw(damages())(seed[1:]))  # raises anything but UserError


@FEW
@given(damage=damages())
def test_a_damaged_gzip_image_is_refused_or_equal(tmp_path, damage):
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4)), path)
    before = read_volume(path)[0].copy()
    path.write_bytes(damage(path.read_bytes()))
    with contextlib.suppress(UserError):
        assert np.array_equal(read_volume(path)[0], before)


@FEW
@given(damage=damages())
def test_a_damaged_checkpoint_is_refused_or_equal(tmp_path, damage):
    path, weight = tmp_path / "last.pt", torch.arange(50.0)
    state = {"network": {"weight": weight}, "rows": [{"epoch": 0}], "name": "unet"}
    checkpoint.write_state(path, state)
    path.write_bytes(damage(path.read_bytes()))
    try:
        after = checkpoint.read_state(path)
    except UserError:
        return
    assert torch.equal(after.pop("network")["weight"], weight)
    assert after == {"rows": [{"epoch": 0}], "name": "unet"}


# What was found -----------------------------------------------------------------------------------

@pytest.mark.parametrize("text",
                         ["[" * 100_000, "1" * 5000, "\ud800".encode("utf-8", "surrogatepass")])
def test_json_of_many_brackets_or_digits_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match="a JSON file"):
        read_json(tmp_path / "a.json")


def test_a_name_of_no_letter_is_refused():
    with pytest.raises(UserError, match="stay inside"):
        check_inside("a.zip", "")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_member_of_an_unusual_compression_is_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "Utrecht.zip", "w", method) as archive:
        archive.writestr("training/Utrecht/0/wmh.nii.gz", b"x")
    refuses(run("scans.download", "--layout", "wmh", "--raw", tmp_path, "--any-md5"), "Utrecht.zip",
            "stored or deflated")


def test_a_zip_with_a_file_and_a_folder_of_one_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "Utrecht.zip", "w") as archive:
        archive.writestr("training/0/pre/FLAIR.nii", b"x")
        archive.writestr("training/0/pre/FLAIR.nii/pre/T1.nii", b"x")
    refuses(run("scans.download", "--layout", "wmh", "--raw", tmp_path, "--any-md5"), "Utrecht.zip",
            "an intact zip archive")
    assert not (tmp_path / "wmh" / "Utrecht").exists()


def test_a_patient_whose_name_ends_with_nul_is_drawn_as_any_other(tmp_path):
    for number in range(3):
        write_wmh_subject(tmp_path / "raw" / f"s{number}", shape=(16, 13, 3), seed=number)
    (tmp_path / "patients.csv").write_text("subject,patient\ns0,a\0\ns1,a\0\ns2,b\n")
    assert preprocess(tmp_path / "raw", tmp_path / "data", "--patients",
                      tmp_path / "patients.csv").returncode == 0


@pytest.mark.parametrize("name", ["images", "labels", "distance"])
def test_an_empty_array_is_refused(data, tmp_path, name):
    next(data.glob(f"subjects/*/{name}.npy")).write_bytes(b"")
    refuses(train(data, tmp_path / "run"), f"{name}.npy: expected a NumPy array")


@pytest.mark.parametrize("values",
                         [{"affine": []}, {"affine": [[1, 2], [3]]},
                          {"affine": np.zeros((4, 4)).tolist()}, {"affine": [[None] * 4] * 4},
                          {"original_shape": [2, 2]}, {"original_shape": [2, -1, 3]},
                          {"original_shape": [2, 10 ** 9, 3]}, {"original_shape": [2, None, 3]}])
def test_a_meta_file_with_an_impossible_grid_is_refused(data, tmp_path, values):
    for path in data.glob("subjects/*/meta.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    refuses(train(data, tmp_path / "run", epochs=1), "meta.json", *values)


CHANGES = {"config.json": [{"seed": []}, {"schedule": "up"}, {"schedule": 1}, {"lr": "fast"},
                           {"data": 3}, {"epochs": 0}, {"patch": "888"}, {"patch": [8, 8]},
                           {"patch": [8, 8, "a"]}, {"patch": [0, 8, 8]},
                           {"patch": [999, 999, 999]}],
           "summary.json": [{"epochs": {}}, {"best_epoch": 1e999}, {"seconds": float("nan")}]}


@pytest.mark.parametrize("name, values",
                         [(name, values) for name in CHANGES for values in CHANGES[name]])
def test_a_run_folder_with_values_of_other_types_is_refused(valid, tmp_path, monkeypatch, name,
                                                            values):
    monkeypatch.chdir(tmp_path)
    fuzz_targets.prepare("runs", valid, tmp_path / "folder")
    path = Path(fuzz_targets.RUNS["gdl"], name)
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    refuses(run("report.py", "--runs", "results", "--data", "data", "--only", "table"), name,
            *list(values)[:1])


@pytest.mark.parametrize("program", ["report.py", "main.py"])
@pytest.mark.parametrize("values",
                         [{"classes": [["background"], ["a"]]}, {"classes": ["a", None, 3]},
                          {"modalities": [1, 2]}])
def test_names_of_other_types_are_refused(valid, tmp_path, monkeypatch, program, values):
    monkeypatch.chdir(tmp_path)
    fuzz_targets.prepare("runs", valid, tmp_path / "folder")
    path = Path("data/dataset.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    if program == "main.py":
        result = train("data", tmp_path / "run")
    else:
        result = run(program, "--runs", "results", "--data", "data")
    refuses(result, "dataset.json", f"expected {list(values)[0]} to be a list of names")


@pytest.mark.parametrize("values",
                         [{"train": 3}, {"val": {"empty_fraction": "x"}},
                          {"spacing_mm": {"min": 4}}, {"slices": []}])
def test_a_fingerprint_with_values_of_other_types_is_refused(valid, tmp_path, monkeypatch, values):
    monkeypatch.chdir(tmp_path)
    fuzz_targets.prepare("runs", valid, tmp_path / "folder")
    path = Path("data/fingerprint.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    refuses(run("report.py", "--runs", "results", "--data", "data"), "fingerprint.json")


def spoil(state, kind):
    moments = state["optimizer"]["state"][0]
    if kind == "moment":
        moments["exp_avg"] = torch.zeros(3)
    elif kind == "setting":
        state["optimizer"]["param_groups"][0]["betas"] = "x"
    elif kind == "row":
        state["rows"][0]["val_hd"] = state["best"]["val_hd"] = "far"
    else:
        state["part"] = {"step": 10 ** 9, "seconds": 0.0, "bad": torch.zeros(1, dtype=torch.bool),
                         "sums": {}}


@pytest.mark.parametrize("kind", ["moment", "setting", "row", "part"])
def test_a_checkpoint_of_right_checksums_and_wrong_contents_is_refused(data, tmp_path, kind):
    train(data, tmp_path / "run", epochs=1)
    path = tmp_path / "run" / "last.pt"
    state = torch.load(path, weights_only=True)
    spoil(state, kind)
    torch.save(state, path)
    refuses(train(data, tmp_path / "run", epochs=2), "last.pt", "a checkpoint of this run")


@pytest.mark.parametrize("build, data",
                         [(["unet", 2, 2, 10 ** 6], {}), (["unet", 2, 2, "x"], {}),
                          ([["unet"], 2, 2, 1], {}), (["unet", 2, 2, 1], {"size": 10 ** 6}),
                          (["unet", 2, 2, 1], {"layout": []}),
                          (["unet", 2, 2, 1], {"modalities": ["FLAIR"]}), (["unet", 2, 2], {})])
def test_a_model_that_claims_another_network_is_refused_early(valid, tmp_path, build, data):
    state = torch.load(valid / fuzz_targets.RUNS["gdl"] / "best.pt", weights_only=True)
    torch.save({**state, "build": build, "data": {**state["data"], **data}}, tmp_path / "best.pt")
    refuses(run("predict.py", "--checkpoint", tmp_path / "best.pt", "--describe"), "best.pt",
            "a network of this code")


def test_a_pickle_that_calls_something_runs_nothing(valid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = (valid / fuzz_targets.RUNS["gdl"] / "best.pt").read_bytes()
    pack, _ = fuzz_inputs.pack_record(model, "data.pkl")
    Path("best.pt").write_bytes(pack(fuzz_inputs.CALL))
    refuses(run("predict.py", "--checkpoint", "best.pt", "--describe"), "a checkpoint")
    assert not Path("owned").exists()


def test_an_image_of_wide_numbers_is_refused_early(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.complex128)
    header.set_data_shape((2 ** 14, 2 ** 14 - 1, 1))  # of 16 bytes each
    assert np.prod(header.get_data_shape()) < MAX_VOXELS
    content = io.BytesIO()
    header.write_to(content)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content.getvalue() + bytes(4)))
    with pytest.raises(UserError, match="at most .* bytes"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("offset", [1e30, 2.0 ** 40, -512])
def test_voxels_that_begin_at_an_impossible_place(tmp_path, name, offset):
    whole = bytearray(nib.Nifti1Image(np.zeros((3, 4, 5), np.float32), np.eye(4)).to_bytes())
    whole[108:112] = np.float32(offset).tobytes()
    (tmp_path / name).write_bytes(gzip.compress(whole) if name.endswith("gz") else whole)
    with pytest.raises(UserError):
        read_volume(tmp_path / name)


def test_the_targets_refuse_nothing_valid(valid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tables", "data", "runs"):
        target = fuzz_targets.prepare(name, valid, tmp_path / name)
        valid_cases = [(number, case) for number, case in enumerate(target.cases)
                       if case.pack is bytes]
        assert all(target(bytes([number]) + case.valid) for number, case in valid_cases), name
