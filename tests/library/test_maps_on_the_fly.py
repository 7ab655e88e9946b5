"""Maps of batches: in threads on a CPU, by torch operations on a GPU; both are SciPy's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.data import MetaTensor

from distance import CONVENTIONS, signed_distance
from losses import BoundaryLoss
from pretended_cuda import DEVICE, pretended_cuda
from transforms import AddDistance, distance_map, distance_maps, maps_on_device, signed_distances

both_conventions = pytest.mark.parametrize("convention", CONVENTIONS)
SPACINGS = st.floats(0.3, 5)


def labels(*shape, classes=3, seed=0):
    """Sparse random labels of whole numbers, int64."""
    found = torch.randint(6 * classes, shape, generator=torch.Generator().manual_seed(seed))
    return found.where(found < classes, 0)


def expected(batch, classes, spacing=None, convention="paper"):
    """What `signed_distance` gives of each label and class, (B, K - 1, *spatial)."""
    return np.array([[signed_distance(label == k, spacing, convention) for k in range(1, classes)]
                     for label in batch.numpy()])


# By torch operations ------------------------------------------------------------------------------

def test_a_row_of_pixels_by_hand():
    mask = torch.tensor([[[0, 1, 1, 1, 0, 0, 0]] * 3], dtype=torch.bool)
    assert signed_distances(mask)[0, 1].tolist() == [1, 0, -1, 0, 1, 2, 3]
    assert signed_distances(mask, (1, 2))[0, 1].tolist() == [2, 0, -2, 0, 2, 4, 6]
    assert signed_distances(mask, convention="official")[0, 1].tolist() == [1, 0, -1, 0, 1, 2, 3]


def test_the_nearest_point_may_lie_in_any_row_and_slice():
    mask = torch.zeros(1, 4, 5, 7, dtype=torch.bool)
    mask[0, 0, 1, 2] = True
    assert signed_distances(mask)[0, 3, 4, 5] == np.float32(np.sqrt(9 + 9 + 9))
    assert signed_distances(mask, (2, 3, 4))[0, 3, 4, 5] == np.float32(np.sqrt(36 + 81 + 144))


@both_conventions
@pytest.mark.parametrize("shape", [(1, 4, 5), (1, 3, 4, 5)])
@pytest.mark.parametrize("value", [False, True])
def test_a_mask_without_a_boundary_has_a_map_of_zeros(shape, value, convention):
    other = torch.zeros(shape, dtype=torch.bool)
    other[..., 1, 2] = True
    maps = signed_distances(torch.cat([torch.full(shape, value), other]), None, convention)
    assert not maps[0].any() and maps[1].any()


@settings(deadline=None, max_examples=80)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=3, max_side=9)))
def test_the_papers_maps_in_pixels_are_scipys_bit_by_bit(mask):
    found = signed_distances(torch.from_numpy(mask)[None])[0]
    assert np.array_equal(found, signed_distance(mask))


def test_a_root_that_is_off_by_its_last_bit_does_not_show(monkeypatch):
    """As that of torch is on some processors, in float32 and in float64."""
    masks, exact = labels(3, 6, 11, 9) > 0, torch.Tensor.sqrt
    monkeypatch.setattr(torch.Tensor, "sqrt", lambda x: exact(x).nextafter(x.new_tensor(torch.inf)))
    found = signed_distances(masks)
    assert all(np.array_equal(*pair) for pair in zip(found, map(signed_distance, masks.numpy())))


@both_conventions
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_other_maps_are_scipys_up_to_rounding(convention, data):
    mask = data.draw(arrays(bool, array_shapes(min_dims=2, max_dims=3, max_side=9)))
    spacing = data.draw(st.none() | st.tuples(*[SPACINGS] * mask.ndim))
    found = signed_distances(torch.from_numpy(mask)[None], spacing, convention)[0]
    np.testing.assert_allclose(
        found, signed_distance(mask, spacing, convention), rtol=1e-6, atol=1e-6)


def test_parts_of_the_search_are_put_together(monkeypatch):
    masks = labels(3, 6, 11, 9) > 0
    whole = signed_distances(masks)
    monkeypatch.setattr("transforms.CHUNK", 2 * masks.numel())
    assert torch.equal(signed_distances(masks), whole)


@pytest.mark.parametrize("options, words", [
    ({"spacing": (1, 2, 3)}, "spacing: expected 2 positive"),
    ({"convention": "mine"}, "convention: expected one of paper")])
def test_what_signed_distance_refuses_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        signed_distances(torch.zeros(1, 4, 4, dtype=torch.bool), **options)


# Batches ------------------------------------------------------------------------------------------

@both_conventions
@pytest.mark.parametrize("shape, spacing", [((3, 8, 9), (0.5, 2.0)), ((2, 4, 5, 6), None)])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_has_the_maps_of_its_labels(shape, spacing, convention, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    batch = labels(*shape)
    maps = distance_maps(batch, 3, spacing, convention)
    assert maps.dtype == torch.float32 and type(maps) is torch.Tensor
    assert np.array_equal(maps, expected(batch, 3, spacing, convention))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32, torch.bfloat16])
def test_labels_of_any_type_and_one_hot_ones_have_the_same_maps(dtype):
    batch = labels(2, 6, 7, classes=2)
    one_hot = torch.nn.functional.one_hot(batch).movedim(-1, 1).to(dtype)
    for maps_of in (distance_maps, lambda given, **options: maps_on_device(
            list(given), 2, None, "paper", options.get("one_hot", False))):
        assert np.array_equal(maps_of(batch.to(dtype)), expected(batch, 2))
        assert np.array_equal(maps_of(one_hot, one_hot=True), expected(batch, 2))


def test_arrays_do_as_well():
    batch = labels(2, 6, 7)
    assert torch.equal(distance_maps(batch.numpy(), 3), distance_maps(batch, 3))


def test_each_metatensor_of_a_batch_keeps_its_spacing():
    batch = labels(2, 6, 7, classes=2)
    sizes = [(1.0, 2.0), (3.0, 0.5)]
    given = [MetaTensor(label, affine=torch.diag(torch.tensor([*size, 1, 1])),
                        meta={"spatial_shape": (6, 7)}) for label, size in zip(batch, sizes)]
    found = maps_on_device(given, 2, None, "paper", False)
    for label, size, maps, alone in zip(batch, sizes, found, given):
        np.testing.assert_allclose(maps[0], signed_distance(label == 1, size), rtol=1e-6)
        assert torch.equal(distance_map(alone).as_subclass(torch.Tensor)[0],
                           torch.from_numpy(signed_distance(label == 1, size)))


def test_no_labels_are_named():
    with pytest.raises(ValueError, match="^labels: expected one at least, found shape"):
        distance_maps(torch.zeros(0, 4, 4))


# On a GPU, pretended ------------------------------------------------------------------------------

@both_conventions
@pytest.mark.parametrize("shape, spacing", [((3, 8, 9), None), ((2, 4, 5, 6), (3.0, 1.0, 2.0))])
def test_maps_of_a_gpu_are_made_there_and_nobody_waits(shape, spacing, convention):
    batch = labels(*shape)
    with pretended_cuda() as cuda:
        on_gpu, waits, launches = batch.cuda(), len(cuda.waits), len(cuda.launches)
        maps = distance_maps(on_gpu, 3, spacing, convention)
        assert len(cuda.launches) - launches < 120  # however many labels
        alone = distance_map(on_gpu[0], 3, spacing, convention)
        assert maps.device == alone.device == DEVICE and cuda.waits[waits:] == []
        maps, alone = maps.cpu(), alone.as_subclass(torch.Tensor).cpu()
    np.testing.assert_allclose(maps, expected(batch, 3, spacing, convention), rtol=1e-6)
    assert torch.equal(maps[0], alone)


def test_the_boundary_loss_of_a_gpu_takes_them():
    batch = labels(2, 8, 9, classes=2)
    probs = torch.rand(2, 2, 8, 9).softmax(1)
    loss = BoundaryLoss()(probs, distance_maps(batch))
    with pretended_cuda():
        on_gpu = BoundaryLoss()(probs.cuda(), distance_maps(batch.cuda())).cpu()
    torch.testing.assert_close(on_gpu, loss)


@pytest.mark.parametrize("wrong", [255, -1, 0.5, float("nan"), float("inf")])
def test_a_label_of_other_values_has_a_map_of_nan_there_and_is_an_error_here(wrong):
    batch = labels(2, 6, 7, classes=2).float()
    batch[1, 2, 3] = wrong
    with pretended_cuda():
        maps = distance_maps(batch.cuda()).cpu()
    assert maps[1].isnan().all() and np.array_equal(maps[:1], expected(batch[:1], 2))
    with pytest.raises(ValueError, match="^label: expected whole numbers from 0 to 1"):
        distance_maps(batch)


def test_one_hot_labels_of_a_gpu_are_checked_too():
    one_hot = torch.nn.functional.one_hot(labels(2, 6, 7, classes=2)).movedim(-1, 1)
    one_hot[0, :, 2, 3] = 1
    maps = maps_on_device(list(one_hot), 2, None, "paper", True)
    assert maps[0].isnan().all() and maps[1].isfinite().all()


@pytest.mark.parametrize("shape, one_hot, words", [
    ((2, 9), False, r"shape \(H, W\) or \(D, H, W\), found shape \(9,\)"),
    ((1, 3, 8, 9), True, r"one-hot \(2, H, W\) or \(2, D, H, W\), found shape \(3, 8, 9\)")])
def test_labels_of_another_shape_are_named_there(shape, one_hot, words):
    with pytest.raises(ValueError, match=f"^label: expected {words}"):
        maps_on_device(list(torch.zeros(shape)), 2, None, "paper", one_hot)


def test_monais_pipeline_leaves_the_map_on_the_device():
    label = labels(8, 9, classes=2)
    with pretended_cuda():
        out = AddDistance("label")({"label": label[None].cuda()})["distance"]
        assert out.device == DEVICE
        out = out.cpu()
    assert np.array_equal(out[0], signed_distance(label.numpy() == 1))
