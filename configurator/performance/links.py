"""Bytes/s between a card and its peers, and between a card and host memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from configurator.device import Device
from configurator.parallelism import HOST_GPUS

# InfiniBand NDR, 400 Gb/s one way, one adapter a card, where a group of cards spans hosts.
NODE_BYTES_PER_S = 50e9
# Of PCIe's rate, what copies from pinned host memory reach: 55 of 64 GB/s beside an H200.
PCIE_SHARE = 0.86


def peer_link(device: Device, ranks: Any) -> Any:
    """Bytes/s one way over the slowest link that a group of ``ranks`` cards uses.

    NVLink or the like inside its domain, no more than PCIe among the other cards of a host, and
    among hosts no more than the network or what a full host's cards have.
    """
    domain = np.maximum(np.asarray(device.domain_size), 1)
    fast = np.asarray(device.link_bytes_per_s)

    def inside(cards: Any) -> Any:
        return np.where(cards <= domain, fast, np.minimum(fast, device.host_bytes_per_s))

    across = np.minimum(inside(HOST_GPUS), NODE_BYTES_PER_S)
    return np.where(ranks <= np.maximum(domain, HOST_GPUS), inside(ranks), across)


def host_link(device: Device) -> Any:
    """Bytes/s one way at which a card reads pinned host memory."""
    return np.asarray(device.host_bytes_per_s) * PCIE_SHARE
