"""Unpacking a gzip file: all of it, no more than its bound, and nothing damaged."""

import contextlib
import gzip
import io
import tracemalloc
import zlib

import pytest

from scans.nifti import gunzip

CONTENT = bytes(range(256)) * 40


@pytest.mark.parametrize("parts", [[b"abc"], [b"abc", b"", b"defg"],
                                   [bytes(100_000), bytes(range(256)) * 500], [bytes(3_000_000)]])
@pytest.mark.parametrize("after", [b"", bytes(700)])
def test_all_members_of_a_gzip_file_are_read_and_zeros_may_follow(parts, after):
    packed = b"".join(map(gzip.compress, parts)) + after
    content = gunzip(io.BytesIO(packed), sum(map(len, parts)))
    assert content == b"".join(parts) == gzip.decompress(packed)


@pytest.mark.parametrize("change, error", [
    (lambda packed: packed[:-1], EOFError),
    (lambda packed: packed + b"more", gzip.BadGzipFile),
    (lambda packed: packed[:-8] + bytes(4) + packed[-4:], gzip.BadGzipFile),
    (lambda packed: packed[:10] + b"\xff" + packed[11:], zlib.error),
], ids=["no end", "something else behind", "other checksum", "damaged stream"])
def test_a_gzip_file_that_is_not_whole_is_noticed(change, error):
    with pytest.raises(error):
        gunzip(io.BytesIO(change(gzip.compress(CONTENT))), 10**6)


def test_a_gzip_file_may_be_as_long_as_said_and_no_longer():
    packed = gzip.compress(CONTENT)
    assert gunzip(io.BytesIO(packed), len(CONTENT)) == CONTENT
    with pytest.raises(ValueError, match="more than 10239 bytes"):
        gunzip(io.BytesIO(packed), len(CONTENT) - 1)


@pytest.mark.parametrize("content, most", [(bytes(50_000_000), 1000), (b"abc", 2**31)],
                         ids=["long content", "high bound"])
def test_memory_is_taken_neither_beyond_the_bound_nor_the_content(content, most):
    packed = io.BytesIO(gzip.compress(content))
    refused = pytest.raises(ValueError, match="more than 1000 bytes")
    tracemalloc.start()
    with refused if len(content) > most else contextlib.nullcontext():
        gunzip(packed, most)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
