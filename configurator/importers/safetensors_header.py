"""The header of a safetensors file: names, types and shapes of its tensors."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

from configurator.errors import InputError
from configurator.importers.shared import (
    FILE,
    MAX_ELEMENTS,
    MAX_HEADER,
    MAX_TENSORS,
    Tensor,
    cut_off,
    extra,
    parse_json,
)

_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


def parse_safetensors(data: bytes) -> dict[str, Tensor]:
    """Read a safetensors header: a 64-bit length, then JSON (safetensors README, "Format")."""
    if len(data) < 8:
        raise cut_off(8, len(data))
    (length,) = struct.unpack_from("<Q", data)
    if not 2 <= length <= MAX_HEADER:
        raise InputError(FILE, "header_length", length=length)
    if 8 + length > len(data):
        raise cut_off(8 + length, len(data))
    if data.count(b",", 8, 8 + length) > 10 * MAX_TENSORS:  # decoding them would take gigabytes
        raise InputError(FILE, "too_many_tensors", most=MAX_TENSORS)
    header = parse_json(data[8 : 8 + length], "the safetensors header")
    header.pop("__metadata__", None)
    return {name: safetensors_entry(name, entry) for name, entry in header.items()}


def safetensors_entry(name: str, entry: Any) -> Tensor:
    """Return a tensor of a header's entry."""
    wrong = InputError(FILE, "tensor_entry", name)
    if not isinstance(entry, dict):
        raise wrong
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not (isinstance(dtype, str) and isinstance(shape, list) and isinstance(offsets, list)):
        raise wrong
    if len(offsets) != 2 or len(shape) > 16:
        raise wrong
    if any(type(n) is not int or not 0 <= n <= MAX_ELEMENTS for n in (*shape, *offsets)):
        raise wrong
    tensor = Tensor(dtype, tuple(shape), offsets[1] - offsets[0])
    if tensor.stored_bytes < 0 or tensor.elements > MAX_ELEMENTS:
        raise wrong
    if dtype in _BITS and tensor.elements * _BITS[dtype] != 8 * tensor.stored_bytes:
        raise wrong
    return tensor


def open_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a complete file's header with the safetensors package, which checks it."""
    package = extra("safetensors")
    out: dict[str, Tensor] = {}
    try:
        with package.safe_open(str(path), framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - a handle, no mapping
                part = file.get_slice(name)
                dtype, shape = str(part.get_dtype()), tuple(part.get_shape())
                if dtype not in _BITS:
                    raise InputError(FILE, "tensor_type", path.name, dtype=dtype)
                out[name] = Tensor(dtype, shape, math.prod(shape) * _BITS[dtype] // 8)
    except package.SafetensorError as error:
        raise InputError(FILE, "file_damaged", path.name, reason=error) from None
    return out
