"""Follows every tensor storage of a run on fake CPU tensors through the emulated allocator."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from caching_allocator import CachingAllocator
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode


class Recorder(TorchDispatchMode):
    """Feeds each new storage to an allocator and frees it when Python lets go of it.

    Attributes:
        allocator: What the run would make a CUDA device's allocator do.
        phase: Name of what runs now; set by the caller.
        peaks: Highest live bytes by phase since the last :meth:`restart`.
    """

    def __init__(self, capacity: int | None = None) -> None:
        super().__init__()
        self.allocator = CachingAllocator(capacity)
        self.phase = ""
        self.peaks: dict[str, int] = {}
        self._live: dict[int, int | None] = {}

    def restart(self) -> None:
        """Forget the peaks, so that only what follows counts."""
        self.peaks = {}
        self.allocator.forget_peak()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and take note of the storages that it made."""
        out = function(*args, **(kwargs or {}))
        _pytree.tree_map_only(torch.Tensor, self._note, out)
        return out

    def _note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if tensor.device.type != "cpu" or key in self._live:
            return
        self._live[key] = self.allocator.allocate(storage.nbytes())
        weakref.finalize(storage, self._let_go, key)
        live = self.allocator.allocated
        self.peaks[self.phase] = max(self.peaks.get(self.phase, 0), live)

    def _let_go(self, key: int) -> None:
        self.allocator.free(self._live.pop(key, None))
