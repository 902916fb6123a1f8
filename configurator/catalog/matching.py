"""Finding cards and models by the names that people and drivers give them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from configurator.catalog.records import Gpu, ModelRecord
from configurator.errors import InputError
from configurator.units import MIB

CLOSE_MATCHES = 3
# A card whose reported memory is further than this from the catalog's is another card: the
# smallest gap between two cards of one NVML name is 12 GB against 8 GB (RTX 3060).
MEMORY_TOLERANCE = 0.08


def gpu_key(text: str) -> str:
    """Return a card's name without the vendor, the case and the signs."""
    key = re.sub(r"\(r\)|\(tm\)|^(nvidia|amd|intel)\b", "", text.strip().lower())
    return re.sub(r"[\s_-]+", " ", key).strip()


def model_key(text: str) -> str:
    """Return a model's name without the case and the signs."""
    return re.sub(r"[\s_]+", "-", text.strip().lower())


def close_ids(key: str, names: Iterable[str], to_id: Callable[[str], str]) -> list[str]:
    """Return up to three ids whose names come close to a key."""
    close = difflib.get_close_matches(key, list(names), n=2 * CLOSE_MATCHES, cutoff=0.5)
    return list(dict.fromkeys(to_id(name) for name in close))[:CLOSE_MATCHES]


def unknown(field: str, what: Literal["card", "model"], given: str, close: list[str]) -> InputError:
    """Return the error that nothing of the catalog is called so."""
    code = f"unknown_{what}" + ("_close" if close else "")
    return InputError(field, code, given, given=given, close=", ".join(close))


def gpus_by_name(gpus: Iterable[Gpu]) -> dict[str, tuple[Gpu, ...]]:
    """Return cards by the key of each of their names; those of one name together."""
    names: dict[str, tuple[Gpu, ...]] = {}
    for gpu in gpus:
        for key in {gpu_key(text) for text in (gpu.id, gpu.name, *gpu.aliases)}:
            names[key] = (*names.get(key, ()), gpu)
    return names


def models_by_name(models: Mapping[str, ModelRecord]) -> dict[str, str]:
    """Return ids by the key of the id, and of the short name where one model alone has it."""
    short: dict[str, str | None] = {}
    for model_id, record in models.items():
        key = model_key(record.name)
        short[key] = None if key in short else model_id
    names = {key: model_id for key, model_id in short.items() if model_id is not None}
    names.update({model_key(model_id): model_id for model_id in models})
    return names


def reported_gpu(
    names: Mapping[str, tuple[Gpu, ...]], name: str, memory_mib: int | None
) -> Gpu | None:
    """Return the card that a driver reports; see :meth:`Catalog.match_gpu`."""
    if re.search(r"\blaptop\b|\bmobile\b|\bmax-q design\b|\bmig\b", name, re.IGNORECASE):
        return None
    found = names.get(gpu_key(name), ())
    if memory_mib is None:
        return found[0] if found else None
    near = [(abs(memory_mib * MIB / gpu.memory_bytes - 1), gpu) for gpu in found]
    # Unified memory is reported as all of it, a share of it or not at all.
    near = [pair for pair in near if pair[0] < MEMORY_TOLERANCE or pair[1].usable_gib]
    return min(near, key=lambda pair: pair[0])[1] if near else None
