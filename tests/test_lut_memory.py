"""Memory that kernels are timed in and networks run in."""

from lut.kernels.signature import SLACK
from lut.profilers.memory import HUGE_FROM, slab


def test_memory_of_kernels_is_aligned_apart_and_readable_behind_its_end():
    for sizes in ([3, 100, 64], [HUGE_FROM, 5, 3 << 20]):
        arrays = slab(sizes)
        starts = [a.ctypes.data for a in arrays]
        assert [a.nbytes for a in arrays] == sizes
        assert not any(start % 64 for start in starts)
        assert all(b >= a + size + SLACK for a, b, size in zip(starts, starts[1:], sizes))
        assert not any(a.any() for a in arrays)
