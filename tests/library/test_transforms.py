"""Distance maps on the fly and augmentation: the map that comes out is that of the label."""

import pickle
import subprocess
import sys

import monai
import nibabel as nib
import numpy as np
import pytest
import torch
import torchvision.transforms as v1
from monai.data import MetaTensor
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

import transforms
from checkout import ROOT
from distance import signed_distance
from losses import BoundaryLoss
from transforms import AddDistance, Augment, DistanceMap, RandomRotate90, distance_map


@pytest.fixture
def sample():
    """(image, label): an L-shaped lesion that no flip or turn maps to itself.

    The image's first channel is the label itself.
    """
    label = torch.zeros(16, 16, dtype=torch.uint8)
    label[3:11, 4:7] = 1
    label[9:11, 4:12] = 1
    return torch.stack([label.float(), torch.arange(256.0).reshape(16, 16) / 256]), label


def test_the_map_of_three_pixels_in_a_row_by_hand():
    # Every column of ones but the middle one touches the background.
    label = torch.tensor([[0, 1, 1, 1, 0]] * 3)
    assert distance_map(label)[0, 1].tolist() == [1, 0, -1, 0, 1]
    assert distance_map(label, spacing=(1, 2))[0, 1].tolist() == [2, 0, -2, 0, 2]  # mm


def test_every_foreground_class_has_a_map_and_an_absent_one_is_zero():
    label = torch.tensor([[0, 1, 1], [0, 0, 0], [0, 0, 0]])
    maps = distance_map(label, classes=3)
    assert maps.shape == (2, 3, 3) and maps.dtype == torch.float32
    assert np.array_equal(maps[0], signed_distance(label.numpy() == 1)) and not maps[1].any()


def test_three_dimensional_labels_have_three_dimensional_maps():
    label = torch.zeros(4, 5, 6, dtype=torch.int64)
    label[1:3, 1:4, 2:5] = 1
    assert np.array_equal(distance_map(label)[0], signed_distance(label.numpy() == 1))


# Labels -------------------------------------------------------------------------------------------

ROW = torch.tensor([[0.0, 1, 1, 1, 0]] * 3)
MAP_OF_ROW = [1, 0, -1, 0, 1]


@pytest.mark.parametrize("label", [
    ROW * 1.0000153, ROW + 9e-4, ROW.double() - 9e-4, ROW.half(), ROW.bfloat16(), ROW.bool(),
    ROW.to(torch.int8), 0 - (0 - ROW), ROW.clone().requires_grad_(), ROW.numpy(), ROW.tolist(),
    tv_tensors.Mask(ROW)], ids=str)
def test_labels_of_every_type_are_read_and_nearly_whole_ones_rounded(label):
    assert distance_map(label)[0, 1].tolist() == MAP_OF_ROW


@pytest.mark.parametrize("label, found, do", [
    (255 * ROW.to(torch.uint8), "255", "what is no class 0"),
    (2 * ROW, "2", "what is no class 0"), (-ROW, "-1", "what is no class 0"),
    (ROW * 1.01, "1.01", "nearest neighbour"), (0.5 * ROW, "0.5", "nearest neighbour"),
    (ROW + torch.nan, "nan", "nearest neighbour"), (ROW / 0, "nan, inf|inf, nan", "nearest"),
    (torch.linspace(0, 1, 15).reshape(3, 5), r"0\.07.*, \.\.\.", "cut probabilities")], ids=str)
def test_labels_that_are_no_classes_are_named(label, found, do):
    message = f"^label: expected whole numbers from 0 to 1, found ({found})\\. .*{do}"
    with pytest.raises(ValueError, match=message):
        distance_map(label)


def test_a_class_beyond_the_number_of_classes_is_named():
    with pytest.raises(ValueError, match="from 0 to 2, found 3, 4"):
        distance_map(torch.tensor([[0, 1, 2], [3, 4, 0]]), classes=3)


@pytest.mark.parametrize("shape", [(5,), (1, 2, 3, 4)])
def test_a_label_of_other_dimensions_is_named(shape):
    with pytest.raises(ValueError, match=r"^label: expected shape \(H, W\) or .* Take the "):
        distance_map(torch.zeros(shape))


def test_a_label_of_words_is_named():
    with pytest.raises(ValueError, match="^label: expected whole numbers, found dtype <U1"):
        distance_map([["a", "b"]])


@pytest.mark.parametrize("classes", [1, 0, 2.0, None, (1,)])
def test_a_map_needs_a_foreground_class(classes):
    with pytest.raises(ValueError, match="^classes: expected at least 2"):
        distance_map(ROW, classes)


@pytest.mark.parametrize("spatial", [(6, 7), (4, 6, 7)])
def test_classes_are_read_from_one_hot_on_request(spatial):
    label = torch.as_tensor(np.random.default_rng(0).integers(0, 3, spatial))
    one_hot = torch.nn.functional.one_hot(label, 3).movedim(-1, 0)
    spacing = (2.0, 1.0, 1.0)[-len(spatial):]
    found = distance_map(one_hot * 1.0000153, 3, spacing, one_hot=True)
    assert torch.equal(found, distance_map(label, 3, spacing))


@pytest.mark.parametrize("one_hot, words", [
    (torch.stack([1 - ROW, ROW, ROW]), r"expected one-hot \(2, H, W\) .* found shape \(3, 3, 5\)"),
    (ROW[None], r"found shape \(1, 3, 5\)"), (ROW, r"found shape \(3, 5\)"),
    (torch.stack([1 - ROW, 255 * ROW]), "a single one in each pixel"),
    (torch.stack([ROW, ROW]), "a single one in each pixel"),
    (torch.stack([1 - ROW / 2, ROW / 2]), "a single one in each pixel")], ids=str)
def test_channels_that_are_not_one_hot_are_named(one_hot, words):
    with pytest.raises(ValueError, match=f"^label: .*{words}"):
        distance_map(one_hot, one_hot=True)


# MONAI --------------------------------------------------------------------------------------------

def in_mm(array, *sizes):
    """A MetaTensor with pixels of these sizes along its spatial axes."""
    return MetaTensor(array, affine=np.diag([*sizes, 1.0]))


def test_the_spacing_of_a_metatensor_is_used():
    # Turned and flipped: a column of the affine is the way along an axis of the array.
    affine = np.array([[0.0, -2, 0], [3, 0, 0], [0, 0, 1]])
    expected = distance_map(ROW, spacing=(3, 2))
    assert torch.equal(distance_map(MetaTensor(ROW, affine=affine)), expected)
    assert expected[0, 1].tolist() == [2, 0, -2, 0, 2]

    volume = torch.zeros(3, 5, 4)
    volume[:, 1:4, 1:3] = 1
    found = AddDistance()({"label": in_mm(volume[None], 0.5, 2, 3)})["distance"]
    assert torch.equal(found, distance_map(volume, spacing=(0.5, 2, 3)))


def test_a_batch_of_metatensors_of_different_sizes_is_refused():
    batch = monai.data.list_data_collate([in_mm(torch.zeros(4, 5), 1, size) for size in (2, 3)])
    with pytest.raises(ValueError, match="^spacing: "):
        distance_map(batch)


def test_a_spacing_that_is_given_goes_before_a_metatensors():
    label = in_mm(ROW, 3, 2)
    assert torch.equal(distance_map(label, spacing=(1, 1)), distance_map(ROW))


def test_one_size_along_more_axes_than_the_label_has_will_do():
    assert distance_map(in_mm(ROW, 2, 2, 2))[0, 1].tolist() == [2, 0, -2, 0, 2]


def test_the_sizes_of_other_axes_than_the_labels_are_refused():
    slice_of_a_volume = in_mm(torch.zeros(1, 4, 5, 6), 1, 1, 3)[0, 2]
    with pytest.raises(ValueError, match="^spacing: expected that of the 2 axes .* found 1, 1, 3 "):
        distance_map(slice_of_a_volume)
    distance_map(slice_of_a_volume, spacing=(1, 3))


def test_a_scan_that_monai_loads_brings_its_spacing(tmp_path):
    import nibabel as nib

    label = np.zeros((6, 8, 4), np.float32)
    label[2:5, 2:6, 1:3] = 1
    nib.save(nib.Nifti1Image(label, np.diag([0.5, -2, 3, 1])), tmp_path / "label.nii.gz")
    pipeline = monai.transforms.Compose([
        monai.transforms.LoadImaged("label", ensure_channel_first=True), AddDistance()])
    found = pipeline({"label": tmp_path / "label.nii.gz"})["distance"]
    assert type(found) is torch.Tensor
    assert np.array_equal(found[0], signed_distance(label == 1, (0.5, 2, 3)))


def test_one_hot_channels_are_not_taken_for_one_label():
    one_hot = torch.stack([1 - ROW, ROW])
    message = r"^label: expected a channel axis of length 1 .* \(2, 3, 5\)\. .*one_hot=True"
    with pytest.raises(ValueError, match=message):
        AddDistance()({"label": one_hot})
    found = AddDistance(one_hot=True)({"label": in_mm(one_hot, 3, 2)})["distance"]
    assert torch.equal(found, distance_map(ROW, spacing=(3, 2)))


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (1, 1, 3, 5, 4), (5,), (0, 3, 5)])
def test_a_label_without_its_one_channel_is_named(shape):
    with pytest.raises(ValueError, match="^seg: expected a channel axis of length 1"):
        AddDistance("seg")({"seg": torch.zeros(shape)})


def test_a_label_without_a_channel_axis_is_taken_on_request():
    sample = {"label": ROW, "other": 1}
    found = AddDistance(out="phi", channel=False)(sample)
    assert torch.equal(found["phi"], distance_map(ROW)) and found["other"] == 1
    assert "phi" not in sample
    with pytest.raises(ValueError, match="^one_hot: "):
        AddDistance(channel=False, one_hot=True)


def test_add_distance_is_a_monai_transform_that_pickle_finds():
    transform = AddDistance("label", classes=3)
    assert isinstance(transform, monai.transforms.MapTransform) and transform.keys == ("label",)
    assert not isinstance(transform, monai.transforms.Randomizable)
    assert pickle.loads(pickle.dumps(transform)).options["classes"] == 3


def test_add_distance_takes_its_key_as_monai_does():
    sample = {"label": ROW[None]}
    for transform in (AddDistance(["label"]), AddDistance(("label",))):
        assert torch.equal(transform(sample)["distance"], distance_map(ROW))
    with pytest.raises(ValueError, match="^key: expected that of one label, found .'a', 'b'."):
        AddDistance(["a", "b"])


def test_add_distance_passes_samples_without_a_label_on_request_alone():
    assert AddDistance(allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError, match="label"):
        AddDistance()({"image": 1})


def test_the_spacing_of_a_2_d_file_is_used(tmp_path):
    label = np.zeros((6, 7), np.uint8)
    label[2:5, 2:6] = 1
    nib.save(nib.Nifti1Image(label, np.diag([0.5, 0.7, 1, 1])), tmp_path / "label.nii.gz")
    pipeline = monai.transforms.Compose([
        monai.transforms.LoadImaged("label", ensure_channel_first=True), AddDistance("label")])
    found = pipeline({"label": tmp_path / "label.nii.gz"})["distance"]
    assert np.array_equal(found[0], signed_distance(label, (0.5, 0.7)))


def test_cache_dataset_keeps_the_map_and_flips_move_it(monkeypatch):
    calls = []
    monkeypatch.setattr(transforms, "signed_distance",
                        lambda *arguments: calls.append(1) or signed_distance(*arguments))
    pipeline = monai.transforms.Compose([
        AddDistance("label"),
        monai.transforms.RandFlipd(["label", "distance"], prob=0.5, spatial_axis=1)])
    label = torch.zeros(1, 6, 6)
    label[:, 2:5, :3] = 1
    data = monai.data.CacheDataset([{"label": label}] * 2, pipeline, progress=False)
    assert len(calls) == 2

    flipped = set()
    for sample in (data[index % 2] for index in range(20)):
        now = torch.as_tensor(sample["label"])
        flipped.add(bool(now[0, 2, 5]))
        assert np.array_equal(sample["distance"][0], signed_distance(now[0].numpy() == 1))
    assert flipped == {True, False} and len(calls) == 2


WITHOUT_MONAI = """
import sys
sys.modules["monai"] = None
import torch, transforms
label = torch.zeros(1, 4, 4)
label[0, 1:3, 1:3] = 1
print(tuple(transforms.AddDistance()({"label": label})["distance"].shape))
"""
IMPORTED = """
import sys, transforms
print("monai" in sys.modules, hasattr(transforms, "nothing"))
"""
SAVED = """
import sys, torch, transforms
loaded = torch.load(sys.argv[1], weights_only=True)
print(type(loaded).__name__, loaded.sum().item())
"""


def printed(program, *arguments):
    """What a program in a process of its own prints."""
    result = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], cwd=ROOT,
                            capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_without_monai_add_distance_works_all_the_same():
    assert printed(WITHOUT_MONAI) == "(1, 4, 4)"


def test_monai_is_not_imported_before_add_distance_is_asked_for():
    assert printed(IMPORTED) == "False False"


def test_a_saved_map_loads_with_weights_only_here_and_in_another_process(tmp_path):
    torch.save(distance_map(ROW), tmp_path / "map.pt")
    loaded = torch.load(tmp_path / "map.pt", weights_only=True)
    assert type(loaded) is DistanceMap and torch.equal(loaded, distance_map(ROW))
    assert printed(SAVED, tmp_path / "map.pt") == f"DistanceMap {loaded.sum().item()}"


# Augmentation -------------------------------------------------------------------------------------

@pytest.mark.parametrize("transform", [
    v2.RandomHorizontalFlip(1), v2.RandomVerticalFlip(1), RandomRotate90(),
    v2.RandomAffine(20, scale=(0.8, 1.2)), v2.RandomResizedCrop((12, 12), antialias=True),
    v2.ElasticTransform(20.0, sigma=1.0), v2.RandomRotation((90, 90)),
    v2.GaussianNoise(), v2.Pad(2),
], ids=lambda transform: type(transform).__name__)
@pytest.mark.parametrize("seed", range(3))
def test_the_map_is_that_of_the_transformed_label(sample, transform, seed):
    torch.manual_seed(seed)
    image, label, distance = Augment([transform])(*sample)
    assert np.array_equal(distance[0], signed_distance(label.numpy() == 1))
    assert image.shape[1:] == label.shape == distance.shape[1:] and label.dtype == torch.uint8


@pytest.mark.parametrize("transform", [
    v2.RandomHorizontalFlip(1), v2.RandomVerticalFlip(1), RandomRotate90(),
], ids=lambda transform: type(transform).__name__)
def test_flips_and_right_angles_move_image_label_and_map_alike(sample, transform):
    image, label = sample
    # Any map, whatever the label: that of a volume must be moved too.
    marked = torch.arange(256.0).reshape(1, 16, 16)
    for _ in range(8):
        moved_image, moved_label, moved = Augment([transform])(image, label, marked)
        assert torch.equal(moved_image[0], moved_label.float())
        assert torch.equal(moved_image[1], moved[0] / 256)


def test_all_four_right_angles_occur():
    image, label = torch.arange(4.0).reshape(1, 2, 2), torch.zeros(2, 2)
    rotated = [Augment([RandomRotate90()])(image, label)[0] for _ in range(100)]
    assert {int(image[0, 0, 0]) for image in rotated} == {0, 1, 2, 3}


def test_right_angles_move_whatever_flips_move():
    image, mask = torch.arange(12.0).reshape(1, 3, 4), torch.arange(12).reshape(3, 4)
    boxes = tv_tensors.BoundingBoxes([[0, 0, 2, 1]], format="XYXY", canvas_size=(3, 4))
    picture = functional.to_pil_image(image.to(torch.uint8))
    rotate, seen = RandomRotate90(), set()
    for _ in range(40):
        plain, pil, same, box = rotate(tv_tensors.Image(image), picture, tv_tensors.Mask(mask),
                                       boxes)
        assert torch.equal(plain[0].long(), same)
        assert torch.equal(functional.pil_to_tensor(pil)[0].long(), same)
        left, top, right, bottom = box[0].int().tolist()
        assert sorted(same[top:bottom, left:right].flatten().tolist()) == [0, 1]

        tensor, moved = rotate(image, tv_tensors.Mask(mask))  # v2 takes it for the image
        assert torch.equal(tensor[0].long(), moved)
        seen.add(int(moved[0, 0]))
    assert seen == {0, 3, 8, 11}


def test_changes_of_intensity_keep_the_map_that_was_given(sample):
    given = torch.full((1, 16, 16), 7.0)
    augment = Augment([v2.GaussianNoise(), v2.GaussianBlur(3)])
    assert torch.equal(augment(*sample, given)[2], given)


def test_oblong_pixels_are_not_turned_and_measured_again():
    with pytest.raises(ValueError, match="spacing"):
        Augment([RandomRotate90(), v2.RandomAffine(5)], spacing=(1, 2))
    Augment([RandomRotate90()], spacing=(1, 2))


# Containers ---------------------------------------------------------------------------------------

def moving():
    """Three transforms that move the map."""
    return [v2.RandomHorizontalFlip(0.5), v2.RandomVerticalFlip(0.5), RandomRotate90()]


def affine():
    return v2.RandomAffine(20, translate=(0.1, 0.1), scale=(0.8, 1.2))


NESTED = {
    "Compose": lambda steps: v2.Compose(steps),
    "Sequential": lambda steps: nn.Sequential(*steps),
    "RandomApply": lambda steps: v2.RandomApply(steps, p=0.7),
    "RandomApply of a ModuleList": lambda steps: v2.RandomApply(nn.ModuleList(steps), p=0.7),
    "RandomChoice": lambda steps: v2.RandomChoice(steps, p=[0.5, *[0.3] * (len(steps) - 1)]),
    "RandomOrder": lambda steps: v2.RandomOrder(steps),
    "all of them": lambda steps: v2.RandomOrder([
        v2.RandomApply([v2.Compose(steps[:1])], p=0.9),
        nn.Sequential(v2.RandomChoice(steps[1:]), v2.RandomApply(nn.ModuleList(steps), p=0.5))]),
}
nested = pytest.mark.parametrize("container", NESTED.values(), ids=NESTED)


@nested
def test_flips_and_right_angles_inside_of_containers_move_any_map(sample, container):
    image, label = sample
    marked = torch.arange(256.0).reshape(1, 16, 16)  # as the map of a volume, not that of the label
    augment = Augment([container(moving())], spacing=(1, 3))

    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        moved_image, moved_label, moved = augment(image, label, marked)
        assert torch.equal(moved_image[0], moved_label.float())
        assert torch.equal(moved_image[1], moved[0] / 256)
        seen.add(tuple(moved.flatten()[:2].tolist()))
    assert len(seen) > 2


@nested
@pytest.mark.parametrize("spacing", [None, (1.0, 3.0)])
def test_the_map_is_that_of_the_label_after_whatever_is_inside(sample, container, spacing):
    steps = [affine(), v2.RandomHorizontalFlip(1), v2.GaussianNoise()]
    steps += [RandomRotate90()] if spacing is None else [v2.RandomVerticalFlip(0.5)]
    augment = Augment(container(steps), spacing=spacing)
    for seed in range(6):
        torch.manual_seed(seed)
        _, label, distance = augment(*sample)
        assert np.array_equal(distance[0], signed_distance(label.numpy() == 1, spacing))


# Those that torchvision can call with several inputs.
@pytest.mark.parametrize("name", [
    "Compose", "RandomApply", "RandomApply of a ModuleList", "RandomChoice", "RandomOrder"])
def test_containers_draw_as_they_do_by_themselves(sample, name):
    container = NESTED[name]([affine(), *moving()])
    image, label = sample
    for seed in range(8):
        torch.manual_seed(seed)
        expected = container(tv_tensors.Image(image), tv_tensors.Mask(label))
        torch.manual_seed(seed)
        found = Augment([container])(image, label)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@nested
def test_a_nested_rotation_with_oblong_pixels_is_refused_where_maps_are_computed(container):
    with pytest.raises(ValueError, match="^spacing: expected one pixel size with RandomRotate90"):
        Augment([container([RandomRotate90(), v2.RandomHorizontalFlip()]), affine()],
                spacing=(1, 2))
    Augment([container(moving())], spacing=(1, 2))
    Augment([container([RandomRotate90(), affine()])], spacing=(2, 2))


@pytest.mark.parametrize("transform, is_refused", [
    (v2.RandomRotation((90, 90)), True), (v2.RandomRotation(46), True),
    (v2.RandomAffine((-100, -80)), True), (v2.RandomRotation((0, 180)), True),
    (v2.RandomRotation(45), False), (v2.RandomAffine(0), False),
    (v2.RandomRotation((180, 180)), False), (v2.RandomAffine((170, 190)), False)], ids=str)
def test_oblong_pixels_are_turned_by_45_degrees_at_most(transform, is_refused):
    nested_deep = v2.RandomApply([v2.Compose([transform])])
    for spacing in ((1, 2), np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])):
        if is_refused:
            with pytest.raises(ValueError, match="^spacing: .* of more than 45 degrees"):
                Augment([nested_deep], spacing=spacing)
        else:
            Augment([nested_deep], spacing=spacing)
    Augment([nested_deep], spacing=(2, 2))


class Sometimes(v2.Transform):
    """A container of somebody's own."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside


class MyCompose(v2.Compose):
    pass


@pytest.mark.parametrize("transform, words", [
    (Sometimes(v2.RandomHorizontalFlip()), "found some in Sometimes"),
    (Sometimes([v2.RandomHorizontalFlip()]), "found some in Sometimes"),
    (Sometimes({"flip": RandomRotate90()}), "found some in Sometimes"),
    (Sometimes(v1.Compose([v2.RandomHorizontalFlip()])), "found some in Sometimes"),
    (MyCompose([v2.RandomHorizontalFlip()]), "found some in MyCompose"),
    (v2.Lambda(v2.RandomHorizontalFlip()), "found some in Lambda"),
    (v1.RandomHorizontalFlip(), r"found torchvision\.transforms\.transforms\.RandomHoriz"),
    (v1.Compose([v2.RandomHorizontalFlip()]), r"found torchvision\.transforms\.trans.*Compose"),
    (v1.RandomApply([v2.RandomHorizontalFlip()]), r"found torchvision\..*RandomApply"),
    (nn.Identity(), r"found torch\..*Identity"), (lambda *parts: parts, "found .*function"),
    ([v2.RandomHorizontalFlip()], "found builtins.list")], ids=lambda _: "")
def test_what_cannot_be_looked_into_is_refused(transform, words):
    for outside in (lambda one: one, lambda one: v2.Compose([v2.RandomApply([one])])):
        with pytest.raises(ValueError, match=f"^transforms: expected .*{words}"):
            Augment([outside(transform)])


def test_a_single_transform_will_do(sample):
    image, label, _ = Augment(v2.RandomHorizontalFlip(1))(*sample)
    assert torch.equal(label, sample[1].flip(1)) and torch.equal(image, sample[0].flip(2))


def test_what_a_lambda_unwraps_is_still_moved_together(sample):
    unwrap = v2.Lambda(lambda part: part.as_subclass(torch.Tensor))
    image, label, distance = Augment([unwrap, v2.RandomHorizontalFlip(1)])(*sample)
    assert torch.equal(image[0], label.float()) and torch.equal(label, sample[1].flip(1))
    assert np.array_equal(distance[0], signed_distance(label.numpy() == 1))


def test_augment_can_be_sent_to_a_worker(sample):
    augment = Augment([v2.RandomApply([affine(), v2.RandomHorizontalFlip()])])
    again = pickle.loads(pickle.dumps(augment))
    results = []
    for one in (augment, again):
        torch.manual_seed(1)
        results.append(one(*sample))
    assert all(torch.equal(*pair) for pair in zip(*results))


@pytest.mark.parametrize("change", [lambda label: label[:, :9], lambda label: label[None]],
                         ids=["fewer columns", "with a channel"])
def test_augment_names_a_label_of_another_shape_than_the_image(sample, change):
    image, label = sample
    message = r"^label: expected the shape of the image without its channels, \(16, 16\), found"
    with pytest.raises(ValueError, match=message):
        Augment(v2.RandomHorizontalFlip())(image, change(label))


# A slice of a volume's map, one in mm, one of the other convention, one of two classes: none of
# them is what would be computed from the label
@pytest.mark.parametrize("other", [
    lambda label: distance_map(torch.stack([0 * label, label, label, 0 * label]))[:, 1],
    lambda label: distance_map(label, spacing=(2, 2)),
    lambda label: distance_map(label, convention="official"),
    lambda label: distance_map(label, classes=3)])
def test_a_map_of_another_kind_is_not_replaced_without_a_word(sample, other):
    image, label = sample
    given = other(label)
    turned = Augment(v2.RandomApply([v2.RandomAffine((20, 30))], p=1))
    with pytest.raises(ValueError, match="^distance: expected the map that is computed"):
        turned(image, label, given)

    # flips move any map, and a label that stays as it is keeps it
    kept = Augment([v2.RandomHorizontalFlip(p=1), v2.GaussianNoise()])(image, label, given)[2]
    assert torch.equal(kept, given.as_subclass(torch.Tensor).flip(-1))


def test_a_map_of_the_same_kind_is_computed_again(sample):
    image, label = sample
    augment = Augment(v2.RandomAffine((20, 30)), spacing=(2, 2))
    for given in (distance_map(label, spacing=(2, 2)), None):
        _, turned, distance = augment(image, label, given)
        assert not torch.equal(turned, label)
        assert torch.equal(distance, distance_map(turned, spacing=(2, 2)).as_subclass(torch.Tensor))


def test_slices_that_are_square_in_plane_are_turned_and_measured_again(sample):
    image, label = sample
    volume = torch.stack([0 * label, label, label])
    augment = Augment([RandomRotate90(), v2.RandomAffine((20, 30))], spacing=(12, 2, 2))
    _, turned, distance = augment(image[:, None].expand(-1, 3, -1, -1), volume)
    assert np.array_equal(distance[0], signed_distance(turned.numpy() == 1, (12, 2, 2)))


def test_augment_names_a_map_of_another_size(sample):
    with pytest.raises(ValueError, match="^distance: expected shape .*16, 16.*found .*15, 16"):
        Augment([v2.RandomHorizontalFlip()])(*sample, torch.zeros(1, 15, 16))


def test_augment_does_not_overlook_the_spacing_of_a_metatensor(sample):
    image, label = sample
    flip = v2.RandomHorizontalFlip(1)
    with pytest.raises(ValueError, match="^spacing: expected that of the MetaTensor, .*None"):
        Augment([flip])(image, in_mm(label, 1, 2))
    _, moved, distance = Augment([flip], spacing=(1, 2))(image, in_mm(label, 1, 2))
    assert np.array_equal(distance[0], signed_distance(moved.numpy() == 1, (1, 2)))
    Augment([flip])(image, in_mm(label, 1, 1))


# Into the loss ------------------------------------------------------------------------------------

def test_a_label_with_a_scale_factor_has_its_boundary_loss():
    probs = torch.stack([1 - ROW, ROW])[None]
    assert BoundaryLoss()(probs, distance_map(ROW * 1.0000153)[None]) == pytest.approx(-3 / 15)


def test_a_monai_pipeline_adds_the_map_after_its_own_flips(sample):
    image, label = sample
    pipeline = monai.transforms.Compose([
        monai.transforms.RandFlipd(["image", "label"], prob=1, spatial_axis=0),
        AddDistance("label")])
    out = pipeline({"image": image, "label": label[None]})

    assert torch.equal(torch.as_tensor(out["label"])[0], label.flip(0))
    assert out["distance"].shape == (1, 16, 16)
    assert np.array_equal(out["distance"][0], signed_distance(label.flip(0).numpy() == 1))

    loaded = next(iter(torch.utils.data.DataLoader([out, out], batch_size=2)))
    assert loaded["distance"].shape == (2, 1, 16, 16)
