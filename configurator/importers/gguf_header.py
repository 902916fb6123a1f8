"""The header of a GGUF file: its keys and its tensors.

It is walked here with the tables of the ``gguf`` package (types, block sizes) and not with its
``GGUFReader``: that one makes an array of every token, maps the tensors' data, which an upload
does not have, and does not bound the counts that a header claims.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configurator.architecture import MAX_LAYERS
from configurator.errors import InputError
from configurator.importers.shared import (
    FILE,
    MAX_ELEMENTS,
    MAX_HEADER,
    MAX_TENSORS,
    Tensor,
    cut_off,
    extra,
)

MAX_KEPT_STRING = 4096
MAX_KEPT_ARRAY = MAX_LAYERS  # a value a layer; longer ones are the tokenizer's
MAX_KEYS, MAX_STRINGS = 10_000, 5_000_000
MAGIC = b"GGUF"
# ggml's gguf.h: value types 0 to 12, with struct's letters. 8 is a string, 9 an array.
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_U64 = struct.Struct("<Q")
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})", re.DOTALL)


@dataclass(frozen=True)
class Length:
    """An array of which only the length was kept."""

    count: int


@dataclass(frozen=True)
class Gguf:
    """What the header of a file, or of all its parts, says."""

    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def parts(self) -> int:
        """Return over how many files the model is split."""
        count = self.meta.get("split.count")
        return count if isinstance(count, int) else 1


class _Cursor:
    """Reads forward through bytes that may end or lie at any point."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data, self.size, self.at, self.strings = data, len(data), 0, 0

    def skip(self, length: int) -> int:
        """Pass over a number of bytes and return where they begin."""
        start, end = self.at, self.at + length
        if end > MAX_HEADER:
            raise _damaged(f"it claims a header longer than {MAX_HEADER:,} bytes")
        if end > self.size:
            raise cut_off(end, self.size)
        self.at = end
        return start

    def number(self, letter: str) -> Any:
        code = "<" + letter
        return struct.unpack_from(code, self.data, self.skip(struct.calcsize(code)))[0]

    def text(self) -> str:
        """Return a string, cut to what is worth keeping."""
        length = self.number("Q")
        start = self.skip(length)
        kept = self.data[start : start + min(length, MAX_KEPT_STRING)]
        return kept.decode("utf-8", errors="replace")

    def array(self) -> Any:
        kind, count = self.number("I"), self.number("Q")
        if kind == _STRING:
            self.strings += count
            if self.strings > MAX_STRINGS:
                raise _damaged(f"it claims {self.strings:,} strings")
            read, data = _U64.unpack_from, self.data
            for _ in range(count):
                self.skip(read(data, self.skip(8))[0])
            return Length(count)
        if kind not in _SCALARS:
            raise _damaged(f"it has a list of the unknown type {kind}")
        letter = _SCALARS[kind]
        start = self.skip(count * struct.calcsize("<" + letter))
        if count > MAX_KEPT_ARRAY:
            return Length(count)
        return list(struct.unpack_from(f"<{count}{letter}", self.data, start))

    def value(self) -> Any:
        kind = self.number("I")
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise _damaged(f"it has a value of the unknown type {kind}")
        return self.number(_SCALARS[kind])


def _damaged(why: str) -> InputError:
    return InputError(FILE, "gguf_damaged", reason=why)


def read_gguf(data: bytes | mmap.mmap) -> Gguf:
    """Walk a GGUF header (ggml docs/gguf.md, versions 2 and 3)."""
    package = extra("gguf")
    if data[:4] != MAGIC[: len(data)]:
        raise _damaged("it does not begin with GGUF")
    cursor = _Cursor(data)
    cursor.skip(4)
    version = cursor.number("I")
    if version not in (2, 3):
        raise _damaged(f"its version is {version:,}, and 2 and 3 (little-endian) are known")
    tensor_count, key_count = cursor.number("Q"), cursor.number("Q")
    if tensor_count > MAX_TENSORS or key_count > MAX_KEYS:
        raise _damaged(f"it claims {tensor_count:,} tensors and {key_count:,} keys")
    meta: dict[str, Any] = {}
    for _ in range(key_count):
        key = cursor.text()
        meta[key] = cursor.value()
    tensors: dict[str, Tensor] = {}
    for _ in range(tensor_count):
        name, dimensions = cursor.text(), cursor.number("I")
        if name in tensors:
            raise _damaged(f"it lists {name[:60]!r} twice")
        if dimensions > 4:  # GGML_MAX_DIMS
            raise _damaged(f"a tensor has {dimensions:,} dimensions")
        shape = tuple(cursor.number("Q") for _ in range(dimensions))
        tensors[name] = _gguf_tensor(package, name, shape, cursor.number("I"))
        cursor.skip(8)
    return Gguf(meta, tensors)


def _gguf_tensor(package: Any, name: str, shape: tuple[int, ...], code: int) -> Tensor:
    try:
        kind = package.GGMLQuantizationType(code)
        block, size = package.GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        raise InputError(FILE, "gguf_type", name, kind=code) from None
    elements = math.prod(shape)
    if elements > MAX_ELEMENTS or (shape and shape[0] % block):
        raise _damaged(f"the shape of {name[:60]!r} cannot be")
    return Tensor(kind.name, shape[::-1], elements // block * size)


def starts_like_gguf(path: Path) -> bool:
    """Whether a file of any name is a GGUF file."""
    with path.open("rb") as file:
        return file.read(4) == MAGIC


def open_gguf(path: Path) -> Gguf:
    """Read a file's header."""
    if path.stat().st_size < 24:
        raise cut_off(24, path.stat().st_size)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return read_gguf(data)


def split_name(path: Path) -> tuple[str, int]:
    """Return a file's name without its part number, and how many parts it names."""
    match = _SPLIT.fullmatch(path.stem)
    return (match[1], int(match[3])) if match else (path.stem, 1)
