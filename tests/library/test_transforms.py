"""Distance maps on the fly and augmentation: the map that comes out is that of the label."""

import monai
import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from distance import signed_distance
from transforms import AddDistance, Augment, RandomRotate90, distance_map


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


def test_changes_of_intensity_keep_the_map_that_was_given(sample):
    given = torch.full((1, 16, 16), 7.0)
    augment = Augment([v2.GaussianNoise(), v2.GaussianBlur(3)])
    assert torch.equal(augment(*sample, given)[2], given)


def test_oblong_pixels_are_not_turned_and_measured_again():
    with pytest.raises(ValueError, match="spacing"):
        Augment([RandomRotate90(), v2.RandomAffine(5)], spacing=(1, 2))
    Augment([RandomRotate90()], spacing=(1, 2))


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
