"""Arrays are written with holes where they are zero."""

import numpy as np
import pytest

from scans.convert import save_sparse


@pytest.mark.parametrize("shape, dtype",
                         [((0, 4), np.uint8), ((3,), np.uint8), ((3968,), np.uint8),
                          ((3969,), np.uint8), ((5, 2, 64, 64), np.uint16),
                          ((7, 1, 33, 31), np.float32)])
@pytest.mark.parametrize("share", [0, 0.0003, 1])
def test_sparse_files_hold_what_np_save_would_write(tmp_path, shape, dtype, share):
    rng = np.random.default_rng(0)
    array = (rng.random(shape) < share).astype(dtype)
    save_sparse(tmp_path / "ours.npy", array)
    np.save(tmp_path / "numpy.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_background_of_zeros_takes_no_space_on_disk(tmp_path):
    image = np.zeros((8, 128, 128), np.uint16)
    image[:, 40:88] = 7
    save_sparse(tmp_path / "images.npy", image)
    status = (tmp_path / "images.npy").stat()
    # the blocks at the edges of each slice
    assert status.st_blocks * 512 <= status.st_size * (48 / 128) + 8 * 2 * 4096
