"""What every importer shares: the model read, its tensors, JSON, errors, what differs."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configurator.architecture import Architecture
from configurator.architecture.tables import Assumption
from configurator.errors import InputError
from configurator.memory.weights import weight_table
from configurator.scenario import ConfigModel
from configurator.units import MIB

FILE, REPOSITORY = "model.file", "model.repo_id"
MAX_HEADER = 100 * 1000 * 1000  # safetensors' own limit; GGUF headers with vocabulary take 1-20 MB
MAX_CONFIG = 8 * MIB
MAX_TENSORS = 200_000
MAX_ELEMENTS = 10**15
# From here on the file and the architecture read from it are said to differ.
SIZE_TOLERANCE = 0.05


@dataclass(frozen=True)
class Imported:
    """A model read from a header.

    Attributes:
        model: Its config, in the form of a Hugging Face config.json.
        precision: The contract's name of what the weights are stored in.
        weights_bytes: Sum of the tensors' bytes, exact; 0 where no tensors were read.
        tensors: Their number.
        notes: What to tell the reader: codes and values.
    """

    model: ConfigModel
    precision: str
    weights_bytes: int
    tensors: int
    notes: tuple[Assumption, ...] = ()


@dataclass(frozen=True)
class Tensor:
    """A tensor as a header states it."""

    dtype: str
    shape: tuple[int, ...]  # outermost first
    stored_bytes: int

    @property
    def elements(self) -> int:
        """Return how many numbers it holds."""
        return math.prod(self.shape)


def extra(module: str) -> Any:
    """Import an optional package."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            FILE if module != "huggingface_hub" else REPOSITORY, "needs_package", package=module
        ) from None


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Return a JSON object."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError(FILE, "file_not_json", what=what) from None
    if not isinstance(value, dict):
        raise InputError(FILE, "file_object", what=what)
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Return a file's JSON object."""
    with path.open("rb") as file:
        data = file.read(MAX_CONFIG + 1)
    if len(data) > MAX_CONFIG:
        raise InputError(FILE, "config_too_large", path.name)
    return parse_json(data, path.name)


def cut_off(needed: int, given: int) -> InputError:
    """Return the error of a header that is longer than what is there."""
    return InputError(FILE, "cut_off", given, needed=needed, given=given)


def imported_model(
    config: dict[str, Any],
    name: str,
    precision: str,
    tensors: Mapping[str, Tensor],
    notes: Iterable[Assumption],
) -> Imported:
    """Return a model with the sums of its tensors."""
    size = sum(t.stored_bytes for t in tensors.values())
    model = ConfigModel(config=config, name=name[:200])
    return Imported(model, precision, size, len(tensors), tuple(notes))


def table_bytes(arch: Architecture, precision: str, engine: str) -> float:
    """Bytes that the engine's formulas give for a file; llama.cpp's host share is in it too."""
    table = weight_table(arch, precision, engine, True)
    return table.total + table.host


def differences(
    arch: Architecture, precision: str, engine: str, tensors: Mapping[str, Tensor]
) -> list[Assumption]:
    """Say where the header's exact sums and the architecture read from it disagree."""
    stored = sum(t.stored_bytes for t in tensors.values())
    estimated = table_bytes(arch, precision, engine)
    if abs(stored - estimated) <= SIZE_TOLERANCE * estimated:
        return []
    values = {"stored_bytes": stored, "estimated_bytes": round(estimated)}
    return [("stored_size_differs", values)]
