"""Augmentation: what each change gives by hand, maps that fit their labels, runs that repeat."""

import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, functional

import transforms
from conftest import assert_same_run, preprocess, refuses, train, write_wmh_subject
from dataloader import Batch, Patches, Slices
from distance import signed_distance
from losses_regional import build_loss
from pretended_cuda import MEMORY, pretended_cuda
from scans.folder import Dataset
from training import augmentation, nonfinite, step_graph
from training.augmentation import Augmentation, Change, moved, recoloured
from training.maps import add_maps

GDL = build_loss("gdl+boundary")
STILL = np.array([[1.0, 0, 0], [0, 1, 0]])  # an affine change that changes nothing


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Data folders of four scans of 20x24x5, two for training, each of another kind of map."""
    root = tmp_path_factory.mktemp("augmentation")
    for number in range(4):
        affine = np.diag([1.0, 1.5 + number, 3, 1])  # pixels of another shape in each scan
        write_wmh_subject(root / "raw" / f"s{number}", affine=affine, seed=number)
    kinds = {"px": (), "mm": ("--unit", "mm", "--convention", "official"),
             "code2018": ("--protocol", "code2018"), "volumes": ("--map-dims", 3, "--unit", "mm")}
    for name, more in kinds.items():
        assert preprocess(root / "raw", root / name, *more).returncode == 0
    return root


def slices_of(folder, loss=GDL):
    slices = Slices(folder, "train")
    add_maps(slices, loss, 2)
    return slices


def change(turned=False, flipped=(), affine=None, gain=1.0, shift=0.0):
    return Change(turned, flipped, affine, np.array([gain]), np.array([shift]))


# By hand ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("turned, flipped, expected", [
    (False, (), [[1, 2], [3, 4]]), (False, (-1,), [[2, 1], [4, 3]]),
    (False, (-2,), [[3, 4], [1, 2]]), (True, (), [[1, 3], [2, 4]]),
    (True, (-1,), [[3, 1], [4, 2]]),             # a quarter turn clockwise
    (True, (-2,), [[2, 4], [1, 3]]), (False, (-2, -1), [[4, 3], [2, 1]])])
def test_flips_and_right_angles_written_out(turned, flipped, expected):
    assert moved(torch.tensor([[1, 2], [3, 4]]), change(turned, flipped)).tolist() == expected


def test_contrast_is_about_the_mean_and_brightness_in_standard_deviations():
    images = torch.tensor([[[[0.0, 2]], [[5, 5]]]])  # means 1 and 5, deviations 1 and 0
    by = Change(False, (), None, np.array([1.5, 2]), np.array([0.5, 1]))
    assert recoloured(images, [by]).tolist() == [[[[0, 3]], [[5, 5]]]]


class Drawn(Augmentation):
    """Augmentation with these changes instead of random ones."""

    def __init__(self, train, changes, loss=GDL):
        super().__init__(train, loss, 0, 0)
        self.changes = iter(changes)

    def draw(self, rng, shape):
        return next(self.changes)


def square_batch(folder):
    """(Slices, a Batch of one slice of 8x8 with a 3x3 lesion): image 1 in the lesion, else 0."""
    label = torch.zeros(1, 8, 8, dtype=torch.uint8)
    label[0, 2:5, 2:5] = 1
    phi = torch.from_numpy(signed_distance(label[0].numpy() == 1))[None, None]
    return Slices(folder, "train"), Batch(label[:, None].float(), label, phi)


def test_a_shift_by_one_pixel_takes_image_label_and_map_along(folders):
    train, batch = square_batch(folders / "px")
    by = STILL + [[0, 0, 0], [0, 0, -2 / 8]]  # each row comes from the one above
    found = Drawn(train, [change(affine=by)])(batch, [0], 0)
    expected = torch.zeros(8, 8)
    expected[3:6, 2:5] = 1
    assert torch.equal(found.images[0, 0], expected) and torch.equal(found.labels[0], expected)
    assert found.distance[0, 0, 3:6, 2:5].tolist() == [[0, 0, 0], [0, -1, 0], [0, 0, 0]]
    assert found.distance[0, 0, 0, 2] == 3 and found.labels.dtype == torch.uint8


def test_a_map_that_is_only_moved_is_not_made_again(folders, monkeypatch):
    monkeypatch.setattr(transforms, "distance_maps", None)
    train, batch = square_batch(folders / "px")
    found = Drawn(train, [change(True, (-1,))])(batch, [0], 0)
    assert torch.equal(found.distance[0], batch.distance[0].rot90(-1, (-2, -1)))


def test_affine_changes_are_torchvisions():
    angle, scale, shift = 7.0, 0.93, np.array([1.5, -2.25])  # columns, rows
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    turn = np.radians(angle)
    inverse = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) / scale
    matrix = torch.tensor(np.column_stack([inverse, -inverse @ shift * 2 / 40]))[None].float()
    grid = torch.nn.functional.affine_grid(matrix, (1, 1, 40, 40), align_corners=False)
    for mode in ("bilinear", "nearest"):
        expected = functional.affine(image, angle, shift.tolist(), scale, [0, 0],
                                     InterpolationMode(mode))
        inside = (..., slice(8, -8), slice(8, -8))  # theirs is 0 beyond the edge
        torch.testing.assert_close(augmentation.sampled(image, grid, mode)[inside],
                                   expected[inside], atol=1e-4, rtol=0)


def test_what_is_drawn_lies_in_its_range_and_uses_all_of_it(folders):
    rng, augment = np.random.default_rng(0), Augmentation(slices_of(folders / "px"), GDL, 0, 0)
    drawn = [augment.draw(rng, (2, 32, 32)) for _ in range(4000)]
    matrices = np.array([one.affine for one in drawn if one.affine is not None])
    scales = 1 / np.sqrt(np.linalg.det(matrices[:, :, :2]))
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    for values, low, high in ((scales, 0.9, 1.1), (angles, -10, 10), (matrices[..., 2], -0.1, 0.1),
                              ([one.gains for one in drawn], 0.75, 1.25),
                              ([one.shifts for one in drawn], -0.25, 0.25)):
        assert low <= np.min(values) < low + 0.01 * (high - low)
        assert high >= np.max(values) > high - 0.01 * (high - low)

    kinds = np.unique([(one.turned, -1 in one.flipped, -2 in one.flipped, one.affine is not None)
                       for one in drawn], axis=0, return_counts=True)
    assert len(kinds[1]) == 16 and kinds[1].min() > 200  # 250 of each


# Maps fit their labels ----------------------------------------------------------------------------

def augmented(folder, loss=GDL, step=0):
    """(Slices, rows, Changes, Batch as it was, Batch after it) of 10 slices."""
    train = slices_of(folder, loss)
    rows, augment = train.order(0, 0), Augmentation(train, loss, 3, 5)
    before, kept = train.read(rows), []
    draw = augment.draw
    augment.draw = lambda *words: kept.append(draw(*words)) or kept[-1]
    return train, rows, kept, before, augment(before, rows, step)


def voxels_of(train, rows, kept):
    """mm along the rows and columns of each slice after it was turned."""
    return [spacing[:0:-1] if one.turned else spacing[1:]
            for spacing, one in zip(train.spacings(rows), kept, strict=True)]


@pytest.mark.parametrize("kind", ["px", "mm", "code2018"])
def test_every_map_is_that_of_its_label_as_the_data_folder_makes_them(folders, kind):
    seen = set()
    for step in range(4):
        train, rows, kept, _, after = augmented(folders / kind, step=step)
        how = train.settings.distance
        for label, phi, voxel, one in zip(after.labels.numpy(), after.distance[:, 0].numpy(),
                                          voxels_of(train, rows, kept), kept, strict=True):
            exact = signed_distance(label == 1, voxel if kind == "mm" else None, how.convention)
            np.testing.assert_allclose(phi, np.trunc(exact) if how.truncate else exact, atol=1e-5)
            seen |= {(one.turned, one.affine is None)} if label.any() else set()
    assert len(seen) == 4  # turned or not, deformed or not


@pytest.mark.parametrize("name", ["gsl", "rwl", "cc_dice_ce"])
@pytest.mark.parametrize("kind", ["px", "mm"])
def test_the_maps_of_other_losses_are_those_of_the_label_too(folders, kind, name):
    loss = build_loss(name, 2, options={"weights": [1, 2]} if name == "gsl" else None)
    train, rows, kept, _, after = augmented(folders / kind, loss)
    for index, voxel in enumerate(voxels_of(train, rows, kept)):
        label, voxel = after.labels[index].numpy(), voxel if kind == "mm" else None
        if name == "gsl":
            found = after.distance[index, 0]
            expected = signed_distance(label == 0, voxel, train.settings.distance.convention)
        else:
            found, expected = after.maps[index], loss.make_maps(label, voxel)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name, first", [("gdl+boundary", 1), ("gsl", 0)])
def test_of_several_classes_each_has_its_map_again(name, first):
    settings = Dataset(layout="mine", source="own", size=12, classes=["background", "a", "b", "c"],
                       modalities=["FLAIR"])
    loss = build_loss(name, 4, options={"weights": [1] * 4} if name == "gsl" else None)
    labels = torch.zeros(2, 12, 12, dtype=torch.uint8)
    labels[0, 2:9, 3:8], labels[0, 4:7, 4:6], labels[1, 1:5, 6:11] = 1, 3, 2
    augment = Augmentation(SimpleNamespace(settings=settings), loss, 0, 0)
    phi, = augment.maps_of(labels, [(1, 1), (1, 2)])  # in pixels
    assert phi.shape == (2, 4 - first, 12, 12)
    for label, maps in zip(labels.numpy(), phi.numpy(), strict=True):
        for k, found in enumerate(maps, first):
            np.testing.assert_array_equal(found, signed_distance(label == k))


def test_with_maps_of_volumes_slices_are_not_deformed(folders):
    *_, kept, before, after = augmented(folders / "volumes")
    assert all(one.affine is None for one in kept)
    for one, old, new in zip(kept, before.distance, after.distance, strict=True):
        assert torch.equal(moved(old, one), new)


def test_patches_are_flipped_on_every_axis_with_their_labels_and_maps(folders):
    train = Patches(folders / "volumes", "train", [8, 16, 16])
    rows, augment = train.order(0, 0), Augmentation(train, GDL, 0, 0)
    draw, kept = augment.draw, []
    augment.draw = lambda *words: kept.append(draw(*words)) or kept[-1]
    before = train.read(rows)
    after = augment(before, rows, 0)
    for kind in ("labels", "distance"):
        for one, old, new in zip(kept, getattr(before, kind), getattr(after, kind), strict=True):
            assert torch.equal(moved(old, one), new)
    assert {axis for one in kept for axis in one.flipped} == {-3, -2, -1}
    assert any(one.turned for one in kept)
    assert not any(augment.draw(np.random.default_rng(k), (1, 8, 16, 32)).turned for k in range(9))


# What is drawn ------------------------------------------------------------------------------------

def test_seed_epoch_and_step_fix_what_is_drawn(folders):
    train = slices_of(folders / "px")
    rows = range(8)

    def images(seed, epoch, step):
        return Augmentation(train, GDL, seed, epoch)(train.read(rows), rows, step).images

    assert torch.equal(images(1, 2, 3), images(1, 2, 3))
    for other in ((0, 2, 3), (1, 1, 3), (1, 2, 2)):
        assert not torch.equal(images(1, 2, 3), images(*other))


def test_processes_draw_for_their_slices_what_one_would(folders):
    train, rows = slices_of(folders / "mm"), np.arange(7)
    augment = Augmentation(train, GDL, 1, 2)
    whole = augment(train.read(rows), rows, 3)
    for rank in range(2):
        share = augment(train.read(rows[rank::2]), rows, 3, rank, 2)
        for mine, all_of_them in zip(share, whole, strict=True):
            torch.testing.assert_close(mine, all_of_them[rank::2], rtol=0, atol=1e-6)
    assert len(augment(train.read([]), rows[:1], 3, 1, 2).images) == 0


# Whole runs ---------------------------------------------------------------------------------------

@pytest.mark.signals
@pytest.mark.parametrize("options", [
    ("px",), ("volumes", "--dims", 3, "--patch", 8, 16, 16, "--amp", "off")])
def test_a_run_repeats_and_continues_within_an_epoch_bit_for_bit(
    folders, tmp_path, monkeypatch, options
):
    folder, options = folders / options[0], (*options[1:], "--batch-size", 4, "--augment")
    whole = train(folder, tmp_path / "whole", *options, epochs=2)
    assert "augmentation by flips, right angles" in whole.stdout
    assert ("affine" in whole.stdout) == (folder.name == "px")
    train(folder, tmp_path / "plain", *options[:-1], epochs=2)
    taken, step_unless = [], nonfinite.step_unless

    def signal_in_step(*words):
        taken.append(1)
        if len(taken) == 4:
            signal.raise_signal(signal.SIGTERM)
        step_unless(*words)

    with monkeypatch.context() as patch:
        patch.setattr(nonfinite, "step_unless", signal_in_step)
        assert train(folder, tmp_path / "cut", *options, epochs=2).returncode == 143
    again = train(folder, tmp_path / "cut", *options, epochs=2)
    assert "after step" in again.stdout
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "whole", tmp_path / "plain")


def test_augmentation_defines_a_run(folders, tmp_path):
    train(folders / "px", tmp_path / "run", "--augment", epochs=1)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["augment"] is True
    refuses(train(folders / "px", tmp_path / "run", epochs=2), "augment False", "augment True")


@pytest.mark.parametrize("memory", [MEMORY, 0])
@pytest.mark.parametrize("graph", [(), ("--cuda-graph",)])
def test_on_a_pretended_device_a_run_is_the_cpus_bit_for_bit(
    folders, tmp_path, monkeypatch, memory, graph
):
    monkeypatch.setattr(step_graph, "apart", lambda step, device: step())
    monkeypatch.setattr(step_graph, "record", lambda step: step)
    options = ("--augment", "--amp", "bf16", "--lr", 2.0 ** -10, "--batch-size", 3)
    train(folders / "px", tmp_path / "cpu", "--device", "cpu", *options)
    with pretended_cuda(memory=memory):
        result = train(folders / "px", tmp_path / "cuda", "--device", "cuda", *options, *graph)
    assert result.returncode == 0, result.stderr
    assert_same_run(tmp_path / "cpu", tmp_path / "cuda")
