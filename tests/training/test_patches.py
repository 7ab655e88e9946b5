"""Training in 3-D: patches, prediction by overlapping patches, and a run with --dims 3."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from conftest import assert_same_run, preprocess, refuses, run, train, weights
from dataloader import Patches, cut, default_patch
from networks import build
from scoring.run_files import check_patch
from training.inference import gaussian, sliding_window, starts
from utils import UserError


@pytest.fixture
def volumes(raw, tmp_path):
    """The raw folder with distance maps of its volumes in mm.

    Four volumes of 5x32x32 are for training, two for validation.
    """
    assert preprocess(raw, tmp_path / "volumes", "--map-dims", 3, "--unit", "mm").returncode == 0
    return tmp_path / "volumes"


# Patches ------------------------------------------------------------------------------------------


def test_a_patch_is_what_lies_there_and_zeros_beyond_the_volume():
    volume = np.arange(24).reshape(2, 3, 4)  # (S, H, W)
    assert cut(volume, (1, 0, 1), (1, 2, 2)).tolist() == [[[13, 14], [17, 18]]]
    assert cut(volume, (1, 2, 3), (2, 2, 2)).tolist() == [[[23, 0], [0, 0]], [[0, 0], [0, 0]]]
    channels = np.stack([volume, 100 + volume], axis=1)  # (S, C, H, W)
    assert cut(channels, (1, 0, 1), (1, 2, 2)).tolist() == [
        [[[13, 14], [17, 18]]],
        [[[113, 114], [117, 118]]],
    ]


@pytest.mark.parametrize(
    "shapes, patch",
    [
        ([(48, 256, 256), (83, 256, 256)], [32, 128, 128]),
        ([(5, 96, 96)], [8, 96, 96]),
        ([(16, 64, 64)], [16, 64, 64]),
        ([(2, 256, 256), (8, 256, 256), (22, 256, 256)], [8, 128, 128]),
    ],
)
def test_the_patch_that_is_taken_by_itself(shapes, patch):
    assert default_patch(shapes) == patch


def test_an_epoch_draws_as_many_patches_as_take_up_the_voxels(volumes):
    assert len(Patches(volumes, "train")) == 4  # 5 slices of 32x32 in a patch of 8x32x32
    assert len(Patches(volumes, "train", [3, 16, 16])) == 4 * 7  # 5120 / 768 = 6.67
    assert len(Patches(volumes, "train", [8, 16, 16])) == 4 * 4  # only 5 of the 8 slices are there


@pytest.mark.parametrize(
    "asked, taken",
    [([32, 128, 128], [8, 32, 32]), ([8, 32, 40], [8, 32, 32]), ([3, 16, 32], [3, 16, 32])],
)
def test_a_patch_is_no_larger_than_the_volumes(volumes, asked, taken):
    assert Patches(volumes, "train", asked).patch == taken


def test_a_patch_that_the_volumes_make_too_small_is_refused(volumes, tmp_path):
    result = run("main.py", "--data", volumes, "--dims", 3, "--patch", 16, 8, 8, "--width", 2,
                 "--epochs", 1, "--batch-size", 3, "--out", tmp_path / "run")
    refuses(result, "--patch: expected more than 8 voxels", "[16, 8, 8]", "leave [8, 8, 8]")
    assert not (tmp_path / "run").exists()


def test_a_run_says_which_patch_it_takes_for_one_that_is_too_large(volumes, tmp_path):
    for words in (
        "--patch 32 128 128: larger than every volume; 8 32 32 is taken",
        "finished",
    ):  # and goes on with both
        result = train(volumes, tmp_path / "run", "--dims", 3, "--patch", 32, 128, 128, epochs=1)
        assert result.returncode == 0 and words in result.stdout, result.stderr

    assert (
        "finished"
        in train(volumes, tmp_path / "run", "--dims", 3, "--patch", 8, 32, 32, epochs=1).stdout
    )
    assert json.loads((tmp_path / "run" / "config.json").read_text())["patch"] == [8, 32, 32]


def test_patches_lie_in_the_volume_and_depend_on_seed_and_epoch_alone(volumes):
    some, again = (Patches(volumes, "train", [3, 16, 20]) for _ in range(2))
    order = some.order(1, 2)
    assert order.shape == (len(some), 4) and (order == again.order(1, 2)).all()
    for other in (some.order(1, 3), some.order(2, 2), some.order(2, 1), some.order(0, 3)):
        assert (order != other).any()
    assert order[:, 1:].min() == 0 and (order[:, 1:].max(0) <= [2, 16, 12]).all()
    assert np.bincount(order[:, 0]).tolist() == some.counts
    assert (np.diff(order[:, 0]) < 0).any()  # the scans are mixed


def test_a_third_of_the_patches_lies_around_a_lesion(volumes):
    some = Patches(volumes, "train", [1, 1, 1])  # 5120 a scan: each a single voxel
    labels = some.read(some.order(0, 0)).labels
    lesion = float(np.mean([(scan > 0).mean() for _, scan, _ in some.arrays]))
    expected = 1 / 3 + 2 / 3 * lesion
    assert abs(float((labels > 0).float().mean()) - expected) < 4 * np.sqrt(expected / len(labels))


def relabel(volumes, labels, classes):
    """Other labels (scans, S, H, W) for the training scans of a data folder, and zero maps."""
    settings = json.loads((volumes / "dataset.json").read_text())
    names = [scan.name for scan in Patches(volumes, "train").scans]
    (volumes / "dataset.json").write_text(json.dumps({**settings, "classes": classes}))
    for name, one in zip(names, labels, strict=True):
        np.save(volumes / "subjects" / name / "labels.npy", one)
        maps = np.zeros((len(one), len(classes) - 1, *one.shape[1:]), np.float32)
        np.save(volumes / "subjects" / name / "distance.npy", maps)


def test_around_a_lesion_means_that_one_of_its_voxels_is_in_the_middle(volumes, monkeypatch):
    labels = np.zeros((4, 5, 32, 32), np.uint8)
    for number, at in enumerate((8, 12, 16, 20)):
        labels[number, 2, at : at + 3, 30 - at] = 1  # elsewhere in each scan
    relabel(volumes, labels, ["background", "lesion"])
    monkeypatch.setattr("dataloader.FOREGROUND", 1)
    some = Patches(volumes, "train", [1, 5, 7])
    middles = {(number, z, y + 2, x + 3) for number, z, y, x in some.order(0, 0).tolist()}

    assert middles == {
        (number, 2, at + step, 30 - at)
        for number, at in enumerate((8, 12, 16, 20))
        for step in range(3)
    }


def test_every_class_is_drawn_as_often_as_the_others(volumes):
    labels = np.zeros((4, 5 * 32 * 32), np.uint8)
    labels[:, :5], labels[:, 100:1100] = 1, 2
    relabel(volumes, labels.reshape(4, 5, 32, 32), ["background", "small", "large"])
    some = Patches(volumes, "train", [1, 1, 1])
    drawn = some.order(0, 0)
    at = np.ravel_multi_index(drawn[:, 1:].T, (5, 32, 32))
    small, large = (at < 5).sum(), ((at >= 100) & (at < 1100)).sum()
    share, background = len(drawn) / 6, len(drawn) * 2 / 3

    assert (
        abs(small - share - background * 5 / 5120) < 200
        and abs(large - share - background * 1000 / 5120) < 300
    )


def test_a_batch_holds_images_labels_and_the_map_of_the_volume(volumes):
    some = Patches(volumes, "train", [8, 16, 32])
    batch = some.read(np.array([[2, 0, 9, 0], [0, 0, 16, 0]]))
    images, labels, distance = some.arrays[2]

    assert [tuple(tensor.shape) for tensor in batch] == [
        (2, 2, 8, 16, 32),
        (2, 8, 16, 32),
        (2, 1, 8, 16, 32),
    ]
    assert [tensor.dtype for tensor in batch] == [torch.float32, torch.uint8, torch.float32]
    np.testing.assert_array_equal(
        batch.images[0, 1, :5], images[:, 1, 9:25] * np.float32(1 / 65535)
    )
    np.testing.assert_array_equal(batch.labels[0, :5], labels[:, 9:25])
    np.testing.assert_array_equal(batch.distance[0, 0, :5], distance[:, 0, 9:25])

    assert all(not tensor[0, ..., 5:, :, :].any() for tensor in batch) and labels[:, 9:25].any()
    assert distance[0].min() > 0  # slice 0 has no lesion, and yet a distance to the one below
    assert some.scans_of([[2, 0, 9, 0], [0, 0, 16, 0], [2, 1, 0, 0]]) == [
        some.scans[2].name,
        some.scans[0].name,
    ]
    assert [len(tensor) for tensor in some.read([])] == [0, 0, 0]


@pytest.mark.parametrize(
    "patch", [[8, 8], [0, 8, 8], [8, 8, 8.0], [True, 8, 8], "888", [4096, 4096, 4096]]
)
def test_what_is_no_patch_is_refused(patch):
    with pytest.raises(ValueError, match="three sizes"):
        check_patch(patch)


# Overlapping patches ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, length, expected",
    [
        (4, 4, [0]),
        (5, 4, [0, 1]),
        (6, 4, [0, 2]),
        (10, 4, [0, 2, 4, 6]),
        (11, 4, [0, 2, 4, 5, 7]),
        (3, 1, [0, 1, 2]),
        (8, 5, [0, 2, 3]),
    ],
)
def test_patches_begin_evenly_spaced_and_overlap_by_half(size, length, expected):
    assert starts(size, length) == expected


def test_the_weight_of_a_patch_by_hand():
    weight = gaussian(
        [1, 1, 4]
    )  # a standard deviation of 1/2: exp(-(1/2)^2 / (2/4)), exp(-(3/2)^2 / (2/4))
    np.testing.assert_allclose(weight[0, 0], np.exp([-4.5, -0.5, -0.5, -4.5]), rtol=1e-6)
    assert gaussian([8, 8, 8]).min() == np.float32(1e-3) and gaussian([3, 5, 7])[1, 2, 3] == 1


@pytest.mark.parametrize("size", [(5, 12, 9), (8, 8, 8), (2, 3, 20), (1, 1, 1)])
def test_a_voxelwise_network_gives_its_own_logits(size):
    volume = torch.rand(2, *size)
    found = sliding_window(lambda x: torch.cat([x, x.sum(1, keepdim=True)], 1), volume, [4, 6, 8])
    assert found.shape == (3, *size) and found.dtype == torch.float32
    torch.testing.assert_close(
        found, torch.cat([volume, volume.sum(0, keepdim=True)]), rtol=1e-6, atol=1e-6
    )


def test_against_monai():
    torch.manual_seed(0)
    network = build("unet3d", 2, 3, 2).eval()
    volume = torch.rand(
        2, 16, 24, 32
    )  # a multiple of half a patch, where both place the patches alike
    with torch.no_grad():
        expected = sliding_window_inference(
            volume[None], (8, 16, 16), 1, network, overlap=0.5, mode="gaussian"
        )
        found = sliding_window(network, volume, [8, 16, 16])

    torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-5)

    assert (
        found - network(volume[None])[0].detach()
    ).abs().max() > 1e-3  # or the network would not see a patch's border


def test_logits_of_half_precision_are_added_up_in_float32():
    found = sliding_window(
        lambda x: torch.full_like(x, 1 + 2**-7).bfloat16(), torch.zeros(1, 6, 9, 9), [4, 4, 4]
    )
    assert found.dtype == torch.float32 and (found - (1 + 2**-7)).abs().max() < 1e-5


def test_after_each_patch_there_is_time_for_something_else():
    seen = []
    sliding_window(lambda x: x, torch.rand(1, 4, 4, 6), [4, 4, 4], lambda: seen.append(1))
    assert len(seen) == 2


# Runs ---------------------------------------------------------------------------------------------

SMALL = ("--dims", 3, "--patch", 4, 16, 16, "--amp", "off")


def test_a_run_from_volumes_to_masks_scores_and_page(volumes, raw, tmp_path):
    out = tmp_path / "results" / "set" / "gdl+boundary" / "seed0"
    result = train(volumes, out, *SMALL, "--lr", 0.01, "--schedule", "rebalance", epochs=8)
    assert result.returncode == 0, result.stderr
    assert "unet3d of width 2" in result.stdout and "GFLOP per 4x16x16 forward" in result.stdout
    assert "20 training patches per epoch, 2 validation scans" in result.stdout
    config, best = (
        json.loads((out / "config.json").read_text()),
        torch.load(out / "best.pt", weights_only=True),
    )

    assert (config["dims"], config["patch"], config["network"], config["batch_size"]) == (
        3,
        [4, 16, 16],
        "unet3d",
        2,
    )
    assert best["patch"] == [4, 16, 16] and best["build"][0] == "unet3d"
    assert (
        json.loads((out / "summary.json").read_text())["best"]["val_dice_3d"] > 0.3
    )  # it learns: the lesion is bright
    found = run(
        "predict.py",
        "--checkpoint",
        out / "best.pt",
        "--out",
        tmp_path / "masks",
        raw,
        "--probabilities",
    )

    assert found.returncode == 0, found.stderr
    paths = list((out / "predictions").glob("*.nii.gz"))

    assert len(paths) == 2 and all(np.any(nib.load(path).dataobj) for path in paths)

    for path in paths:
        masks = [nib.load(folder / path.name) for folder in (path.parent, tmp_path / "masks")]
        assert np.array_equal(*(mask.dataobj for mask in masks)) and np.array_equal(
            *(mask.affine for mask in masks)
        )

    assert (
        "patches of 4x16x16"
        in run("predict.py", "--checkpoint", out / "best.pt", "--describe").stdout
    )
    scores = run(
        "evaluate.py",
        "--predictions",
        out / "predictions",
        "--data",
        volumes,
        "--csv",
        out / "evaluation.csv",
    )

    assert scores.returncode == 0, scores.stderr
    page = run("report.py", "--runs", tmp_path / "results" / "set", "--data", volumes)

    assert page.returncode == 0, page.stderr
    assert "unet3d" in (tmp_path / "results" / "set" / "report.html").read_text()


def test_an_interrupted_run_in_3d_is_the_same_run(volumes, tmp_path):
    options = (*SMALL, "--schedule", "rebalance")
    train(volumes, tmp_path / "whole", *options, epochs=3)
    train(volumes, tmp_path / "parts", *options, epochs=1)
    assert "continues at epoch 1" in train(volumes, tmp_path / "parts", *options, epochs=3).stdout
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    refuses(
        train(volumes, tmp_path / "parts", "--dims", 3, "--patch", 4, 16, 32),
        "patch [4, 16, 32]",
        "patch [4, 16, 16]",
    )


def test_the_network_of_volumes_means_3d_and_3d_means_that_network(volumes, tmp_path):
    for name, options in (("a", ["--network", "unet3d"]), ("b", ["--dims", 3])):
        assert train(volumes, tmp_path / name, *options, "--amp", "off", epochs=1).returncode == 0
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert torch.load(tmp_path / "a" / "best.pt", weights_only=True)["patch"] == [8, 32, 32]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--dims", 3, "--network", "unet"], ["--network", "unet3d", "found unet, which has 2"]),
        (
            ["--dims", 2, "--network", "unet3d"],
            ["--network", "unet, unet2018", "found unet3d, which has 3"],
        ),
        (["--network", "unet", "--patch", 8, 8, 9], ["--patch", "found unet"]),
        (
            ["--dims", 2, "--patch", 8, 16, 16],
            ["--network: expected one of --dims 2", "--patch asks for it"],
        ),
        (
            ["--dims", 3, "--patch", 8, 8, 8],
            ["--patch: expected more than 8 voxels along an axis", "[8, 8, 8]"],
        ),
        (["--patch", 8, 0, 8], ["patch: expected three sizes", "[8, 0, 8]"]),
    ],
)
def test_options_that_contradict_each_other_are_refused(volumes, tmp_path, options, words):
    result = train(volumes, tmp_path / "run", *options)
    assert result.returncode == 2 and all(word in result.stderr for word in words), result.stderr
    assert not (tmp_path / "run").exists()


def test_the_boundary_loss_in_3d_wants_the_maps_of_the_volumes(data, tmp_path):
    refuses(
        train(data, tmp_path / "run", *SMALL),
        data,
        "maps of their slices",
        "--map-dims 3 --unit mm",
    )
    assert not (tmp_path / "run").exists()
    assert (
        train(data, tmp_path / "run", *SMALL, loss="dice+ce", epochs=1).returncode == 0
    )  # which needs none


@pytest.mark.parametrize(
    "change",
    [
        {"patch": None},
        {"patch": [8, 8]},
        {"patch": [4096, 4096, 4096]},
        {"patch": [8, 8, -1]},
        {"patch": True},
        {"patch": 7},
    ],
)
def test_a_checkpoint_with_another_patch_is_refused(volumes, raw, tmp_path, change):
    train(volumes, tmp_path / "run", *SMALL, epochs=1)
    state = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    torch.save({**state, **change}, tmp_path / "best.pt")
    refuses(
        run("predict.py", "--checkpoint", tmp_path / "best.pt", "--out", tmp_path / "masks", raw),
        "a network of this code",
    )


def test_a_folder_that_is_damaged_is_refused(volumes):
    name = Patches(volumes, "train").scans[0].name
    (volumes / "subjects" / name / "labels.npy").unlink()
    with pytest.raises(UserError, match=name):
        Patches(volumes, "train")
