"""Memory that a training step frees is kept for the next one."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT = 2**31 - 1  # bytes; larger than any block of a training
USUAL = 32 * 2**20  # what glibc's own adjustment ends at


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed blocks of any size in the process for as long as the block lasts; nothing where glibc is not the
    allocator.

    glibc gives blocks above 32 MB back to the system at once, which clears their pages before it hands them out again:
    on a CPU that takes half of the time of a frozen network and a third of that of a training step, whose feature maps
    are of that size.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt"):  # such as musl
        yield
        return
    library.mallopt(M_MMAP_THRESHOLD, KEPT)
    library.mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_THRESHOLD, USUAL)
        library.mallopt(M_TRIM_THRESHOLD, 2 * USUAL)
        library.malloc_trim(0)
