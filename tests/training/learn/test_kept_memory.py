import ctypes
import sys

import numpy as np
import pytest

from blemish.training.learn.kept_memory import kept_memory

resource = pytest.importorskip("resource")
BLOCK = 64 * 2**20  # bytes, as a feature map of a batch


def page_faults():
    """Pages that the system has to clear for a block of memory when one of its size was freed before."""
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.empty(BLOCK, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the allocator is not glibc's"
)
def test_a_freed_block_is_used_again_without_the_system_until_the_end():
    with kept_memory():
        kept = page_faults()
    given_back = page_faults()
    assert given_back > 0
    assert kept < given_back / 4


def test_where_another_allocator_serves_nothing_is_done(monkeypatch):
    class Library:
        pass

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    with kept_memory():
        pass
