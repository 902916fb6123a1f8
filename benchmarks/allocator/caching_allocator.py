"""PyTorch's caching allocator for one CUDA stream, as a model that only counts.

The rules are those of ``c10/cuda/CUDACachingAllocator.cpp`` with its default settings: sizes
rounded up to 512 bytes; small blocks (up to 1 MiB) cut from 2 MiB segments, larger ones from
20 MiB segments below 10 MiB and from segments rounded up to 2 MiB above; best fit; a block is
split where at least 512 bytes (small) or more than 1 MiB (large) remain; freed neighbours merge;
cached segments go back only when a new one does not fit the card.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

MIB = 1 << 20
ROUND = 512
SMALL, SMALL_SEGMENT = MIB, 2 * MIB
MIDDLE, MIDDLE_SEGMENT = 10 * MIB, 20 * MIB


@dataclass
class _Block:
    size: int
    small: bool
    free: bool = False
    before: int | None = None
    after: int | None = None


class CachingAllocator:
    """Counts what a sequence of ``allocate`` and ``free`` makes the allocator hold.

    Attributes:
        allocated, reserved: Bytes in live blocks and in segments, now.
        peak_allocated: Highest ``allocated`` since the last :meth:`forget_peak`.
        capacity: Bytes that segments may take; None for a card without limit.
        out_of_memory: Whether a request did not fit even after giving cached segments back.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.allocated = self.reserved = self.peak_allocated = 0
        self.out_of_memory = False
        self._blocks: dict[int, _Block] = {}
        self._segments: dict[int, int] = {}
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self._next = MIB  # segments never touch, so blocks of two do not merge

    def forget_peak(self) -> None:
        """Start a new peak from what is live now."""
        self.peak_allocated = self.allocated

    def allocate(self, size: int) -> int | None:
        """Return the address of a block for that many bytes; None for none."""
        if size == 0:
            return None
        size = -(-size // ROUND) * ROUND
        small = size <= SMALL
        shelf = self._free[small]
        place = bisect.bisect_left(shelf, (size, 0))
        address = shelf.pop(place)[1] if place < len(shelf) else self._segment(size, small)
        block = self._blocks[address]
        rest = block.size - size
        if rest >= ROUND if small else rest > SMALL:
            other = address + size
            self._blocks[other] = _Block(rest, small, True, address, block.after)
            if block.after is not None:
                self._blocks[block.after].before = other
            block.size, block.after = size, other
            self._shelve(other)
        block.free = False
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return address

    def free(self, address: int | None) -> None:
        """Take a block back and merge it with free neighbours."""
        if address is None:
            return
        block = self._blocks[address]
        self.allocated -= block.size
        block.free = True
        if block.after is not None and self._blocks[block.after].free:
            self._swallow(address, block.after)
        if block.before is not None and self._blocks[block.before].free:
            before = block.before
            self._unshelve(before)
            self._swallow(before, address, shelved=False)
            address = before
        self._shelve(address)

    def _segment(self, size: int, small: bool) -> int:
        if small:
            need = SMALL_SEGMENT
        elif size < MIDDLE:
            need = MIDDLE_SEGMENT
        else:
            need = -(-size // (2 * MIB)) * 2 * MIB
        if self.capacity is not None and self.reserved + need > self.capacity:
            self._give_back()
            self.out_of_memory |= self.reserved + need > self.capacity
        address = self._next
        self._next += need + MIB
        self.reserved += need
        self._segments[address] = need
        self._blocks[address] = _Block(need, small)
        return address

    def _give_back(self) -> None:
        for address, size in list(self._segments.items()):
            block = self._blocks[address]
            if block.free and block.size == size:
                self._unshelve(address)
                del self._blocks[address], self._segments[address]
                self.reserved -= size

    def _swallow(self, address: int, other: int, *, shelved: bool = True) -> None:
        if shelved:
            self._unshelve(other)
        block, gone = self._blocks[address], self._blocks.pop(other)
        block.size += gone.size
        block.after = gone.after
        if gone.after is not None:
            self._blocks[gone.after].before = address

    def _shelve(self, address: int) -> None:
        block = self._blocks[address]
        bisect.insort(self._free[block.small], (block.size, address))

    def _unshelve(self, address: int) -> None:
        block = self._blocks[address]
        shelf = self._free[block.small]
        del shelf[bisect.bisect_left(shelf, (block.size, address))]
