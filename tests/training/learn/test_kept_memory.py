import ctypes
import subprocess
import sys

import pytest

from blemish.training.learn.kept_memory import kept_memory

# In a process of its own: one that has freed much may serve any block from its heap.
PROGRAM = """
import resource
import numpy as np
from blemish.training.learn.kept_memory import kept_memory

def page_faults():  # pages that the system has to clear for a block, as a feature map of a batch, when one was freed
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.empty(64 * 2**20, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with kept_memory():
    kept = page_faults()
print(kept, page_faults())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the allocator is not glibc's"
)
def test_a_freed_block_is_used_again_without_the_system_until_the_end():
    shown = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=120)
    kept, given_back = map(int, shown.stdout.split())
    assert given_back > 0
    assert kept < given_back / 4


def test_where_another_allocator_serves_nothing_is_done(monkeypatch):
    class Library:
        pass

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    with kept_memory():
        pass
