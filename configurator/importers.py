"""Models from files: the header of a GGUF or safetensors file, a model folder, a Hub id.

Only headers are read, never the weights, and no header is trusted: whatever the bytes are, the
answer is an `Imported` or an `InputError`. GGUF headers are walked here with the tables of the
``gguf`` package (types, block sizes, file types) and not with its ``GGUFReader``: that one makes an
array of every token, maps the tensors' data, which an upload does not have, and does not bound
the counts that a header claims.
"""

from __future__ import annotations

import importlib
import json
import math
import mmap
import re
import struct
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configurator.architecture import MAX_LAYERS, Architecture, read_architecture
from configurator.architecture.tables import Assumption
from configurator.errors import InputError
from configurator.memory.weights import GGUF_MIXES, weight_table
from configurator.scenario import ConfigModel
from configurator.units import MIB

FILE, REPOSITORY = "model.file", "model.repo_id"
MAX_HEADER = 100 * 1000 * 1000  # safetensors' own limit; GGUF headers with vocabulary take 1-20 MB
MAX_CONFIG = 8 * MIB
MAX_KEPT_STRING = 4096
MAX_KEPT_ARRAY = MAX_LAYERS  # a value a layer; longer ones are the tokenizer's
MAX_TENSORS, MAX_KEYS, MAX_STRINGS = 200_000, 10_000, 5_000_000
MAX_ELEMENTS = 10**15
# Of one request, and of an import as a whole: it ends even if a server never stops sending.
REQUEST_TIMEOUT_S = 5.0
HUB_DEADLINE_S = 20.0
# From here on the file and the architecture read from it are said to differ.
PARAMETERS_TOLERANCE, SIZE_TOLERANCE = 0.01, 0.05


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
class _Tensor:
    dtype: str
    shape: tuple[int, ...]  # outermost first
    stored_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def import_file(path: Path) -> Imported:
    """Read a ``.gguf``, a ``.safetensors``, a ``config.json`` or a model's folder.

    Args:
        path: The file or folder. Of a model split over several files, any one of them.

    Returns:
        The model; of big files only the headers are read.

    Raises:
        InputError: The file is not there, damaged, of an unknown kind, or an optional package
            that reads it is not installed.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _import_folder(path)
        if not path.is_file():
            raise InputError(FILE, "is not there; check the path", str(path))
        kind = path.suffix.lower()
        if kind == ".json":
            return _from_config(_read_json(path), path.parent.resolve().name or path.name, {}, ())
        if kind == ".safetensors":
            return _import_safetensors_file(path)
        if kind == ".gguf" or _starts_like_gguf(path):
            return _import_gguf_file(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(FILE, f"cannot be read ({reason})", str(path)) from None
    raise InputError(FILE, _KINDS, path.name)


def import_header_bytes(name: str, data: bytes) -> Imported:
    """Read the first bytes of a file, as an upload gives them.

    Args:
        name: The file's name.
        data: Its first bytes, or all of a config.json; 32 MB hold the header of almost any file.

    Returns:
        The model.

    Raises:
        InputError: The bytes are of no known kind, damaged, or fewer than the header; the message
            says how many are needed.
    """
    stem = Path(name).name or "uploaded model"
    data = bytes(data)
    if data[:4] == _MAGIC or stem.lower().endswith(".gguf"):
        gguf = _read_gguf(data)
        if gguf.parts > 1:
            raise InputError(
                FILE,
                f"is one part of {gguf.parts}, so its header does not list every tensor; import "
                "the files together from a folder on this machine, or upload config.json",
                name,
            )
        return _from_gguf(gguf, stem)
    if stem.lower().endswith(".json") or data.lstrip()[:1] == b"{":
        return _from_config(_parse_json(data, "config.json"), Path(stem).stem, {}, ())
    if stem.lower().endswith(".safetensors") or data[8:9] == b"{":
        return _from_tensors(_parse_safetensors(data), Path(stem).stem)
    raise InputError(FILE, _KINDS, name)


_KINDS = "must be a .gguf or .safetensors file, a config.json, or a folder that holds them"


def _extra(module: str) -> Any:
    """Import an optional package."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            FILE if module != "huggingface_hub" else REPOSITORY,
            f"needs the package {module}; run `pip install gpu-configurator[import]`",
        ) from None


# --------------------------------------------------------------------------- config.json


def _parse_json(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError(FILE, f"{what} is not valid JSON") from None
    if not isinstance(value, dict):
        raise InputError(FILE, f"{what} must be a JSON object")
    return value


def _read_json(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        data = file.read(MAX_CONFIG + 1)
    if len(data) > MAX_CONFIG:
        raise InputError(FILE, f"{path.name} is larger than any config.json", path.name)
    return _parse_json(data, path.name)


def _from_config(
    config: dict[str, Any],
    name: str,
    tensors: Mapping[str, _Tensor],
    notes: Iterable[Assumption],
) -> Imported:
    """Return the model of a config, with the precision that its tensors show."""
    arch = read_architecture(config, name)
    quantization = arch.quantization
    precision = quantization.precision if quantization else arch.native_precision
    found = list(notes)
    if tensors:
        if quantization is None:
            precision = _dtype_precision(tensors)
        found += _differences(arch, precision, "transformers", tensors)
    elif not found:
        found.append(("no_tensors_read", {}))
    return _imported(config, name, precision, tensors, found)


def _imported(
    config: dict[str, Any],
    name: str,
    precision: str,
    tensors: Mapping[str, _Tensor],
    notes: Iterable[Assumption],
) -> Imported:
    size = sum(t.stored_bytes for t in tensors.values())
    model = ConfigModel(config=config, name=name[:200])
    return Imported(model, precision, size, len(tensors), tuple(notes))


def _table_bytes(arch: Architecture, precision: str, engine: str) -> float:
    """Bytes that the engine's formulas give for a file; llama.cpp's host share is in it too."""
    table = weight_table(arch, precision, engine, True)
    return table.total + table.host


def _differences(
    arch: Architecture, precision: str, engine: str, tensors: Mapping[str, _Tensor]
) -> list[Assumption]:
    """Say where the header's exact sums and the architecture read from it disagree."""
    stored = sum(t.stored_bytes for t in tensors.values())
    estimated = _table_bytes(arch, precision, engine)
    if abs(stored - estimated) <= SIZE_TOLERANCE * estimated:
        return []
    values = {"stored_bytes": stored, "estimated_bytes": round(estimated)}
    return [("stored_size_differs", values)]


# --------------------------------------------------------------------------- safetensors

_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
_PLAIN = {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp32"}


def _parse_safetensors(data: bytes) -> dict[str, _Tensor]:
    """Read a safetensors header: a 64-bit length, then JSON (safetensors README, "Format")."""
    if len(data) < 8:
        raise _short(8, len(data))
    (length,) = struct.unpack_from("<Q", data)
    if not 2 <= length <= MAX_HEADER:
        raise InputError(FILE, f"claims a header of {length} bytes: it is no safetensors file")
    if 8 + length > len(data):
        raise _short(8 + length, len(data))
    if data.count(b",", 8, 8 + length) > 10 * MAX_TENSORS:  # decoding them would take gigabytes
        raise InputError(FILE, f"claims more than {MAX_TENSORS:,} tensors")
    header = _parse_json(data[8 : 8 + length], "the safetensors header")
    header.pop("__metadata__", None)
    return {name: _safetensors_entry(name, entry) for name, entry in header.items()}


def _safetensors_entry(name: str, entry: Any) -> _Tensor:
    wrong = InputError(FILE, "has a damaged safetensors header: a tensor's entry is wrong", name)
    if not isinstance(entry, dict):
        raise wrong
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not (isinstance(dtype, str) and isinstance(shape, list) and isinstance(offsets, list)):
        raise wrong
    if len(offsets) != 2 or len(shape) > 16:
        raise wrong
    if any(type(n) is not int or not 0 <= n <= MAX_ELEMENTS for n in (*shape, *offsets)):
        raise wrong
    tensor = _Tensor(dtype, tuple(shape), offsets[1] - offsets[0])
    if tensor.stored_bytes < 0 or tensor.elements > MAX_ELEMENTS:
        raise wrong
    if dtype in _BITS and tensor.elements * _BITS[dtype] != 8 * tensor.stored_bytes:
        raise wrong
    return tensor


def _short(needed: int, given: int) -> InputError:
    return InputError(
        FILE,
        f"is cut off: the header needs at least {needed:,} bytes and only {given:,} are there; "
        f"give the first {needed:,} bytes or more (a whole header is rarely longer than 32 MB)",
        given,
    )


def _open_safetensors(path: Path) -> dict[str, _Tensor]:
    """Read a complete file's header with the safetensors package, which checks it."""
    package = _extra("safetensors")
    out: dict[str, _Tensor] = {}
    try:
        with package.safe_open(str(path), framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - a handle, no mapping
                part = file.get_slice(name)
                dtype, shape = str(part.get_dtype()), tuple(part.get_shape())
                if dtype not in _BITS:
                    raise InputError(FILE, f"holds tensors of the unknown type {dtype}", path.name)
                out[name] = _Tensor(dtype, shape, math.prod(shape) * _BITS[dtype] // 8)
    except package.SafetensorError as error:
        raise InputError(
            FILE, f"is incomplete or damaged; fetch it again ({error})", path.name
        ) from None
    return out


def _import_safetensors_file(path: Path) -> Imported:
    """Read one file, with the config.json beside it where there is one."""
    if (path.parent / "config.json").is_file():
        return _import_folder(path.parent, path)
    return _from_tensors(_open_safetensors(path), path.stem)


def _import_folder(folder: Path, only: Path | None = None) -> Imported:
    name = folder.resolve().name or "model"
    config_file = folder / "config.json"
    if not config_file.is_file():
        return _import_folder_without_config(folder, name)
    config = _read_json(config_file)
    quantization_file = folder / "hf_quant_config.json"
    if "quantization_config" not in config and quantization_file.is_file():
        config["quantization_config"] = _read_json(quantization_file)
    files, listed = _shards(folder, only)
    missing = [f.name for f in files if not f.is_file()]
    notes: list[Assumption] = []
    tensors: dict[str, _Tensor] = {}
    if missing:
        notes.append(("weight_files_missing", {"count": len(missing), "of": len(files)}))
    else:
        for file in files:
            tensors.update(_open_safetensors(file))
        if listed is not None and not listed <= tensors.keys():
            raise InputError(FILE, "lacks tensors that its index names; fetch it again", name)
    return _from_config(config, name, tensors, notes)


def _import_folder_without_config(folder: Path, name: str) -> Imported:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".gguf")
    models = {_split_name(p)[0]: p for p in found if not p.name.lower().startswith("mmproj")}
    if len(models) == 1:
        return _import_gguf_file(next(iter(models.values())))
    if models:
        raise InputError(FILE, f"holds {len(models)} GGUF models; name one of the files", name)
    files, _ = _shards(folder, None)
    tensors: dict[str, _Tensor] = {}
    for file in files:
        tensors.update(_open_safetensors(file))
    if not tensors:
        raise InputError(FILE, "holds no config.json, .safetensors or .gguf file", name)
    return _from_tensors(tensors, name)


def _shards(folder: Path, only: Path | None) -> tuple[list[Path], set[str] | None]:
    """Return a folder's weight files, and the tensors that its index lists."""
    index_file = folder / "model.safetensors.index.json"
    if index_file.is_file():
        with index_file.open("rb") as file:
            data = file.read(MAX_HEADER + 1)
        if len(data) > MAX_HEADER:
            raise InputError(FILE, "is larger than any index", index_file.name)
        places = _parse_json(data, index_file.name).get("weight_map")
        if not isinstance(places, dict) or not all(
            isinstance(p, str) and p and Path(p).name == p for p in places.values()
        ):
            raise InputError(FILE, "has a damaged weight_map", index_file.name)
        names = sorted(set(places.values()))
        if only is None or only.name in names:
            return [folder / n for n in names], set(places)
    if only is not None:
        return [only], None
    found = sorted(folder.glob("*.safetensors"))
    own = [p for p in found if p.name.startswith("model")]
    return own or found, None


def _dtype_precision(tensors: Mapping[str, _Tensor]) -> str:
    """Return the precision of unexplained tensors, from the type that holds most bytes."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.stored_bytes
    dtype = max(sizes, key=lambda d: sizes[d])
    if dtype in _PLAIN:
        return _PLAIN[dtype]
    if dtype.startswith(("F8_E4M3", "F8_E5M2")):
        return "fp8"
    if dtype == "I8":
        return "int8"
    if any(name.endswith("quant_state.bitsandbytes__nf4") for name in tensors):
        return "nf4"
    if dtype in ("I32", "U32") and any(name.endswith(".qweight") for name in tensors):
        return "int4"
    if any(name.endswith(".weight_scale_2") for name in tensors):
        return "nvfp4"
    if any(name.endswith("_blocks") for name in tensors):
        return "mxfp4"
    raise InputError(
        FILE,
        f"stores its weights packed as {dtype}; a config.json with its quantization_config is "
        "needed to tell how",
        dtype,
    )


_LAYER = re.compile(r"model\.layers\.(\d{1,4})\.(.+)")


def _from_tensors(tensors: Mapping[str, _Tensor], name: str) -> Imported:
    """Infer the config where the names and shapes of the tensors determine it: dense Qwen3."""
    layers: dict[int, dict[str, tuple[int, ...]]] = {}
    for key, tensor in tensors.items():
        match = _LAYER.fullmatch(key)
        if match:
            layers.setdefault(int(match[1]), {})[match[2]] = tensor.shape
    embedding = tensors.get("model.embed_tokens.weight")
    first = layers.get(0, {})
    if not layers or embedding is None or len(embedding.shape) != 2:
        raise InputError(
            FILE,
            "holds no decoder layers under the usual names; put the model's config.json beside it "
            "and import the folder, or upload config.json",
            name,
        )
    weights = {k: s for k, s in first.items() if k.endswith(".weight")}
    if (
        set(weights) != _QWEN3_LAYER
        or any({k: s for k, s in v.items() if k in weights} != weights for v in layers.values())
        or sorted(layers) != list(range(len(layers)))
    ):
        raise _needs_config(name)
    q, k = weights["self_attn.q_proj.weight"], weights["self_attn.k_proj.weight"]
    norm, gate = weights["self_attn.q_norm.weight"], weights["mlp.gate_proj.weight"]
    vocab, hidden = embedding.shape
    if not all(len(s) == 2 for s in (q, k, gate)) or len(norm) != 1 or not norm[0]:
        raise _needs_config(name)
    dim = norm[0]
    if q[0] % dim or k[0] % dim or q[0] == dim or q[1] != hidden:
        raise _needs_config(name)
    config: dict[str, Any] = {
        "model_type": "qwen3",
        "hidden_size": hidden,
        "num_hidden_layers": len(layers),
        "num_attention_heads": q[0] // dim,
        "num_key_value_heads": k[0] // dim,
        "head_dim": dim,
        "intermediate_size": gate[0],
        "vocab_size": vocab,
        "tie_word_embeddings": "lm_head.weight" not in tensors,
    }
    return _from_config(config, name, tensors, [("config_inferred", {"model_type": "qwen3"})])


_QWEN3_LAYER = {
    "input_layernorm.weight", "post_attention_layernorm.weight", "mlp.gate_proj.weight",
    "mlp.up_proj.weight", "mlp.down_proj.weight", "self_attn.q_proj.weight",
    "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight",
    "self_attn.q_norm.weight", "self_attn.k_norm.weight",
}  # fmt: skip


def _needs_config(name: str) -> InputError:
    return InputError(
        FILE,
        "does not say how many attention heads the model has or how wide they are (shapes give "
        "only their product); put its config.json beside it and import the folder, or upload "
        "config.json",
        name,
    )


# --------------------------------------------------------------------------- GGUF: reading

_MAGIC = b"GGUF"
# ggml's gguf.h: value types 0 to 12, with struct's letters. 8 is a string, 9 an array.
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_U64 = struct.Struct("<Q")
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})", re.DOTALL)


@dataclass(frozen=True)
class _Length:
    """An array of which only the length was kept."""

    count: int


@dataclass(frozen=True)
class _Gguf:
    meta: dict[str, Any]
    tensors: dict[str, _Tensor]

    @property
    def parts(self) -> int:
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
            raise _short(end, self.size)
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
            return _Length(count)
        if kind not in _SCALARS:
            raise _damaged(f"it has a list of the unknown type {kind}")
        letter = _SCALARS[kind]
        start = self.skip(count * struct.calcsize("<" + letter))
        if count > MAX_KEPT_ARRAY:
            return _Length(count)
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
    return InputError(FILE, f"is no sound GGUF file: {why}; fetch it again")


def _read_gguf(data: bytes | mmap.mmap) -> _Gguf:
    """Walk a GGUF header (ggml docs/gguf.md, versions 2 and 3)."""
    package = _extra("gguf")
    if data[:4] != _MAGIC[: len(data)]:
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
    tensors: dict[str, _Tensor] = {}
    for _ in range(tensor_count):
        name, dimensions = cursor.text(), cursor.number("I")
        if name in tensors:
            raise _damaged(f"it lists {name[:60]!r} twice")
        if dimensions > 4:  # GGML_MAX_DIMS
            raise _damaged(f"a tensor has {dimensions:,} dimensions")
        shape = tuple(cursor.number("Q") for _ in range(dimensions))
        tensors[name] = _gguf_tensor(package, name, shape, cursor.number("I"))
        cursor.skip(8)
    return _Gguf(meta, tensors)


def _gguf_tensor(package: Any, name: str, shape: tuple[int, ...], code: int) -> _Tensor:
    try:
        kind = package.GGMLQuantizationType(code)
        block, size = package.GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        raise InputError(
            FILE,
            f"holds tensors of type {code}, which the installed gguf package does not know; run "
            "`pip install -U gguf`",
            name,
        ) from None
    elements = math.prod(shape)
    if elements > MAX_ELEMENTS or (shape and shape[0] % block):
        raise _damaged(f"the shape of {name[:60]!r} cannot be")
    return _Tensor(kind.name, shape[::-1], elements // block * size)


def _starts_like_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


def _open_gguf(path: Path) -> _Gguf:
    if path.stat().st_size < 24:
        raise _short(24, path.stat().st_size)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _read_gguf(data)


def _split_name(path: Path) -> tuple[str, int]:
    """Return a file's name without its part number, and how many parts it names."""
    match = _SPLIT.fullmatch(path.stem)
    return (match[1], int(match[3])) if match else (path.stem, 1)


def _import_gguf_file(path: Path) -> Imported:
    name, named = _split_name(path)
    gguf = _open_gguf(path)
    if gguf.parts > 1 or named > 1:
        count = max(gguf.parts, named)
        files = [path.with_name(f"{name}-{i:05}-of-{count:05}.gguf") for i in range(1, count + 1)]
        missing = next((f.name for f in files if not f.is_file()), None)
        if missing:
            raise InputError(FILE, f"is one part of {count}, and {missing} is not beside it", name)
        parts = [_open_gguf(f) for f in files]
        gguf = _Gguf(parts[0].meta, {k: t for p in parts for k, t in p.tensors.items()})
    return _from_gguf(gguf, name)


# --------------------------------------------------------------------------- GGUF: meaning

# llama.cpp's name of an architecture (gguf.constants.MODEL_ARCH_NAMES) → config.json's model_type.
_MODEL_TYPES = {
    "llama": "llama", "llama4": "llama4", "mistral3": "mistral", "mistral4": "mistral4",
    "smollm3": "smollm3", "seed_oss": "seed_oss", "baichuan": "baichuan", "orion": "orion",
    "internlm2": "internlm2", "minicpm": "minicpm", "minicpm3": "minicpm3", "exaone": "exaone",
    "exaone4": "exaone4", "granite": "granite", "granitemoe": "granitemoe",
    "granitehybrid": "granitemoehybrid", "olmo": "olmo", "olmo2": "olmo2", "olmoe": "olmoe",
    "command-r": "cohere", "cohere2": "cohere2", "stablelm": "stablelm", "nemotron": "nemotron",
    "nemotron_h": "nemotron_h", "nemotron_h_moe": "nemotron_h",
    "qwen": "qwen", "qwen2": "qwen2", "qwen2vl": "qwen2", "qwen2moe": "qwen2_moe",
    "qwen3": "qwen3", "qwen3vl": "qwen3", "qwen3moe": "qwen3_moe", "qwen3vlmoe": "qwen3_moe",
    "qwen3next": "qwen3_next", "qwen35": "qwen3_5", "qwen35moe": "qwen3_5_moe",
    "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3_text", "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text", "gpt2": "gpt2", "gptneox": "gpt_neox", "gptj": "gptj",
    "starcoder": "gpt_bigcode", "starcoder2": "starcoder2", "bloom": "bloom", "mpt": "mpt",
    "falcon": "falcon", "phi2": "phi", "phi3": "phi3", "phimoe": "phimoe", "dbrx": "dbrx",
    "chatglm": "chatglm", "glm4": "glm4", "glm4moe": "glm4_moe", "glm-dsa": "glm_moe_dsa",
    "deepseek": "deepseek", "deepseek2": "deepseek_v2", "kimi-linear": "kimi_linear",
    "gpt-oss": "gpt_oss", "ernie4_5": "ernie4_5", "ernie4_5-moe": "ernie4_5_moe",
    "hunyuan-moe": "hunyuan_v1_moe", "hunyuan-dense": "hunyuan_v1_dense", "dots1": "dots1",
    "bailingmoe": "bailing_moe", "bailingmoe2": "bailing_moe", "minimax-m2": "minimax_m2",
    "afmoe": "afmoe", "lfm2": "lfm2", "lfm2moe": "lfm2_moe",
}  # fmt: skip
# Where llama.cpp keeps only a window (hparams.swa_type); Phi-3's it reads and does not use.
_WINDOWED = ("gemma2", "gemma3", "gemma3n", "gemma4", "cohere2", "gpt-oss", "exaone4", "olmo2",
             "afmoe")  # fmt: skip
# Layers of these differ in heads or MLP width, which the config says in another way.
_UNEVEN = ("gemma3n", "gemma4", "granitehybrid", "nemotron_h", "nemotron_h_moe", "kimi-linear",
           "lfm2", "lfm2moe", "qwen3next", "qwen35", "qwen35moe")  # fmt: skip


def _from_gguf(gguf: _Gguf, name: str) -> Imported:
    header = _Header(gguf)
    config, notes = header.config()
    title = gguf.meta.get("general.name")
    title = title if isinstance(title, str) and title.strip() else Path(name).stem
    arch = read_architecture(config, title[:200])
    precision, stored = _gguf_precision(gguf, arch)
    if stored != precision:
        notes.append(("nearest_precision", {"stored": stored, "precision": precision}))
    held = sum(t.elements for k, t in gguf.tensors.items() if not k.startswith("rope_"))
    described = arch.parameters + arch.mtp_parameters
    if abs(held - described) > PARAMETERS_TOLERANCE * held:
        notes.append(("parameters_differ", {"file": held, "config": described}))
    notes += _differences(arch, precision, "llama_cpp", gguf.tensors)
    plain = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}.get(precision)
    if plain:
        config["torch_dtype"] = plain
    return _imported(config, title, precision, gguf.tensors, notes)


def _gguf_precision(gguf: _Gguf, arch: Architecture) -> tuple[str, str]:
    """Return the contract's name for what a GGUF holds, and llama.cpp's own.

    A mix that the contract has no name for gets the one whose size is nearest.
    """
    file_type = gguf.meta.get("general.file_type")
    stored = ""
    if isinstance(file_type, int):
        try:
            stored = str(_extra("gguf").LlamaFileType(file_type).name).lower()
        except ValueError:
            stored = ""
    stored = stored.removeprefix("mostly_").removeprefix("all_").removesuffix("_moe")
    if not stored or stored == "guessed":
        sizes: dict[str, int] = {}
        for tensor in gguf.tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.elements
        stored = max(sizes, key=lambda d: sizes[d]).lower()
    names = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "mxfp4": "mxfp4"}
    names |= {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}
    names |= {mix: mix for mix in GGUF_MIXES}
    if stored in names:
        return names[stored], names[stored]
    size = sum(t.stored_bytes for t in gguf.tensors.values())
    tables = {mix: _table_bytes(arch, mix, "llama_cpp") for mix in GGUF_MIXES}
    return min(GGUF_MIXES, key=lambda mix: abs(tables[mix] - size)), stored


class _Header:
    """A GGUF header, being turned into a config."""

    def __init__(self, gguf: _Gguf) -> None:
        self.meta, self.tensors = gguf.meta, gguf.tensors
        kind = self.meta.get("general.type", "model")
        if kind != "model":
            raise InputError(FILE, "holds no language model; give the model's own file", kind)
        arch = self.meta.get("general.architecture")
        if not isinstance(arch, str) or arch not in _MODEL_TYPES:
            raise InputError(
                f"{FILE}.general.architecture",
                "is not known to the importer; use the model's catalog id or its config.json",
                arch if arch is not None else "(missing)",
            )
        self.arch: str = arch
        if not self.tensors:
            raise InputError(FILE, "lists no tensors; give the file that holds the weights")
        self.blocks: dict[int, set[str]] = {}
        for name in self.tensors:
            match = re.fullmatch(r"blk\.(\d{1,4})\.(.+)", name)
            if match:
                self.blocks.setdefault(int(match[1]), set()).add(match[2])

    def numbers(self, key: str) -> list[int]:
        """Return a key's whole numbers, one or one a layer; empty where it is absent."""
        value = self.meta.get(f"{self.arch}.{key}")
        values = value if isinstance(value, list) else [] if value is None else [value]
        if any(type(v) is not int or not 0 <= v < 1 << 31 for v in values):
            raise InputError(f"{FILE}.{self.arch}.{key}", "must be a whole number", value)
        return values

    def number(self, key: str) -> int:
        """Return a key's number; of a list the largest; 0 where it is absent."""
        values = self.numbers(key)
        if len({v for v in values if v}) > 1 and self.arch not in _UNEVEN:
            raise InputError(
                f"{FILE}.{self.arch}.{key}",
                "differs from layer to layer, which the importer does not know of this "
                "architecture; use the model's catalog id or its config.json",
                values,
            )
        return max(values, default=0)

    def need(self, key: str) -> int:
        """Return a key's number, which must be there."""
        value = self.number(key)
        if not value:
            raise InputError(f"{FILE}.{self.arch}.{key}", "is missing from the header")
        return value

    def has(self, tensor: str) -> bool:
        """Whether any layer has a tensor whose name begins so."""
        return any(n.startswith(tensor) for names in self.blocks.values() for n in names)

    def width(self, tensor: str) -> int:
        """Return the output width of a layer's matrix; 0 where no layer has it."""
        for index in sorted(self.blocks):
            found = self.tensors.get(f"blk.{index}.{tensor}.weight")
            if found is not None and len(found.shape) >= 2:
                return found.shape[-2]
        return 0

    def config(self) -> tuple[dict[str, Any], list[Assumption]]:
        """Return the config and what to tell about it."""
        notes: list[Assumption] = []
        heads = self.need("attention.head_count")
        kv_heads = self.number("attention.head_count_kv") or heads
        layers, drafts = self._layers()
        config: dict[str, Any] = {
            "model_type": self._model_type(),
            "hidden_size": self.need("embedding_length"),
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "intermediate_size": self.number("feed_forward_length") or None,
            "vocab_size": self._vocabulary(),
            "max_position_embeddings": self.number("context_length") or None,
            "tie_word_embeddings": "output.weight" not in self.tensors,
            "num_nextn_predict_layers": drafts,
            "use_qk_norm": self.has("attn_q_norm.weight"),
            "attention_bias": self.has("attn_q.bias") or self.has("attn_qkv.bias"),
        }
        if self.arch == "chatglm":
            config["multi_query_attention"] = True
        if self.arch == "falcon":  # key-value heads as stated, not as the oldest Falcon has them
            config["new_decoder_architecture"] = True
            config["num_ln_in_parallel_attn"] = 2 if self.has("attn_norm_2") else 1
        if self.number("attention.kv_lora_rank"):
            notes += self._latent(config, heads, layers)
        else:
            key = self.number("attention.key_length")
            value = self.number("attention.value_length")
            config["head_dim"] = key or None
            config["v_head_dim"] = value if value and value != key else None
        config |= self._experts(layers)
        notes += self._windows(config, layers)
        config |= self._per_layer_input()
        config |= self._hybrid(config, layers)
        return {k: v for k, v in config.items() if v is not None}, notes

    def _layers(self) -> tuple[int, int]:
        """Return the decoder layers and the draft layers that ``block_count`` takes in."""
        count, drafts = self.need("block_count"), self.number("nextn_predict_layers")
        if count > MAX_LAYERS:
            raise InputError(f"{FILE}.{self.arch}.block_count", f"must be at most {MAX_LAYERS}")
        last = self.blocks.get(count - 1, set())
        if not drafts or drafts >= count:
            return count, 0
        if any(name.startswith("nextn.") for name in last):
            return count - drafts, drafts
        return count - drafts if not last else count, 0

    def _model_type(self) -> str:
        if self.arch == "llama" and self.number("expert_count"):
            return "mixtral"
        if self.arch == "deepseek2" and self.has("exp_probs_b"):
            return "deepseek_v3"
        if self.arch == "olmo2" and self.number("attention.sliding_window"):
            return "olmo3"
        return _MODEL_TYPES[self.arch]

    def _vocabulary(self) -> int:
        embedding = self.tensors.get("token_embd.weight")
        if embedding is not None and len(embedding.shape) == 2:
            return embedding.shape[0]
        tokens = self.meta.get("tokenizer.ggml.tokens")
        return tokens.count if isinstance(tokens, _Length) else self.need("vocab_size")

    def _latent(self, config: dict[str, Any], heads: int, layers: int) -> list[Assumption]:
        """Multi-head latent attention.

        Converters before April 2025 wrote no ``key_length_mla`` and one ``attn_kv_b``: llama.cpp
        then keeps every head's key and value instead of the latent.
        """
        rope = self.need("rope.dimension_count")
        wide = self.number("attention.key_length_mla") or self.need("attention.key_length")
        value = self.number("attention.value_length_mla") or self.number("attention.value_length")
        if wide < rope:
            raise InputError(
                f"{FILE}.{self.arch}.attention.key_length", f"must be at least {rope}", wide
            )
        config |= {
            "num_key_value_heads": heads,
            "kv_lora_rank": self.number("attention.kv_lora_rank"),
            "q_lora_rank": self.number("attention.q_lora_rank") or None,
            "qk_rope_head_dim": rope,
            "qk_nope_head_dim": wide - rope,
            "v_head_dim": value or None,
            "index_n_heads": self.number("attention.indexer.head_count") or None,
            "index_head_dim": self.number("attention.indexer.key_length") or None,
            "use_qk_norm": None,
        }
        if self.number("attention.key_length_mla"):
            return []
        value = value or max(1, config["hidden_size"] // heads)
        elements = layers * heads * (wide + value)
        return [("mla_keys_missing", {"cache_elements_per_token": elements})]

    def _experts(self, layers: int) -> dict[str, Any]:
        experts = self.number("expert_count")
        if not experts:
            return {}
        routed = ["ffn_gate_inp.weight" in self.blocks.get(i, ()) for i in range(layers)]
        out: dict[str, Any] = {
            "num_experts": experts,
            "num_experts_per_tok": self.need("expert_used_count"),
            "moe_intermediate_size": self.number("expert_feed_forward_length")
            or self.number("feed_forward_length")
            or None,
            "mlp_layer_types": ["sparse" if r else "dense" for r in routed],
            "shared_expert_intermediate_size": self.width("ffn_up_shexp") or 0,
            "moe_latent_size": self.number("moe_latent_size") or None,
        }
        if self.arch == "llama4":
            out["intermediate_size_mlp"] = self.number("feed_forward_length") or None
            out["intermediate_size"] = out["moe_intermediate_size"]
        return out

    def _windows(self, config: dict[str, Any], layers: int) -> list[Assumption]:
        window = self.number("attention.sliding_window")
        if self.arch == "llama4":
            config["attention_chunk_size"] = window or 8192  # llama.cpp's LLM_ARCH_LLAMA4
            return []
        if not window:
            return []
        if self.arch not in _WINDOWED:
            return [("sliding_window_unused", {"tokens": window})] if self.arch == "phi3" else []
        config["sliding_window"] = window
        pattern = self.meta.get(f"{self.arch}.attention.sliding_window_pattern")
        if isinstance(pattern, list) and len(pattern) >= layers:
            config["layer_types"] = [
                "sliding_attention" if p else "full_attention" for p in pattern[:layers]
            ]
        elif type(pattern) is int and pattern > 0:
            config["sliding_window_pattern"] = pattern
        elif self.arch == "exaone4":
            config["sliding_window_pattern"] = 4
        if self.arch == "gemma4":
            self._gemma4(config, layers)
        return []

    def _gemma4(self, config: dict[str, Any], layers: int) -> None:
        """Gemma 4: full layers have other heads, and some have no value projection."""
        kinds = config.get("layer_types", [])
        kv = self.numbers("attention.head_count_kv")
        config["global_head_dim"] = self.number("attention.key_length") or None
        config["head_dim"] = self.number("attention.key_length_swa") or config["head_dim"]
        config.pop("v_head_dim")
        full = [i for i in range(len(kinds)) if kinds[i] == "full_attention"]
        if len(kv) >= layers and full:
            sliding = [kv[i] for i in range(layers) if i not in set(full)]
            config["num_global_key_value_heads"] = kv[full[0]] or None
            config["num_key_value_heads"] = max(sliding, default=0) or kv[full[0]]
        config["attention_k_eq_v"] = bool(full) and "attn_v.weight" not in self.blocks.get(
            full[0], ()
        )
        widths = [w for w in self.numbers("feed_forward_length") if w]
        if len(set(widths)) == 2 and max(widths) == 2 * min(widths):
            config |= {"use_double_wide_mlp": True, "intermediate_size": min(widths)}

    def _per_layer_input(self) -> dict[str, Any]:
        """Gemma 3n and 4 E-models: an embedding for each layer, and layers without a cache."""
        out: dict[str, Any] = {}
        width = self.number("embedding_length_per_layer_input")
        if width:
            table = self.tensors.get("per_layer_token_embd.weight")
            out["hidden_size_per_layer_input"] = width
            out["vocab_size_per_layer_input"] = table.shape[0] if table and table.shape else None
        shared = self.number("attention.shared_kv_layers")
        if shared:
            out["num_kv_shared_layers"] = shared
        return out

    def _hybrid(self, config: dict[str, Any], layers: int) -> dict[str, Any]:
        """State-space, delta-rule and convolution layers; which is which the tensors say."""
        if self.arch not in _UNEVEN or self.arch.startswith("gemma"):
            return {}
        names = [self.blocks.get(i, set()) for i in range(layers)]
        if self.arch.startswith("lfm2"):
            conv = ["conv" if _any(n, "shortconv.") else "full_attention" for n in names]
            return {"layer_types": conv, "conv_L_cache": self.need("shortconv.l_cache")}
        ssm = [_any(n, "ssm_") for n in names]
        kernel = self.need("ssm.conv_kernel")
        if self.arch == "kimi-linear":
            linear = {
                "num_heads": config["num_attention_heads"],
                "head_dim": self.need("kda.head_dim"),
                "short_conv_kernel_size": kernel,
                "kda_layers": [i + 1 for i in range(layers) if ssm[i]],
            }
            return {"linear_attn_config": linear}
        inner, ranks = self.need("ssm.inner_size"), self.need("ssm.time_step_rank")
        groups, state = self.need("ssm.group_count"), self.need("ssm.state_size")
        if self.arch.startswith("qwen3"):
            return {
                "layer_types": ["linear_attention" if s else "full_attention" for s in ssm],
                "linear_num_key_heads": groups,
                "linear_num_value_heads": ranks,
                "linear_key_head_dim": state,
                "linear_value_head_dim": max(1, inner // ranks),
                "linear_conv_kernel_dim": kernel,
            }
        mamba: dict[str, Any] = {
            "mamba_num_heads": ranks,
            "mamba_head_dim": max(1, inner // ranks),
            "mamba_n_groups": groups,
            "ssm_state_size": state,
            "conv_kernel": kernel,
            "use_qk_norm": None,
        }
        if self.arch == "granitehybrid":
            shared = self.width("ffn_up_shexp")
            mamba["shared_intermediate_size"] = shared or None
            return {**mamba, "layer_types": ["mamba" if s else "attention" for s in ssm]}
        signs = []
        for block, is_mamba in zip(names, ssm, strict=True):
            rest = "E" if "ffn_gate_inp.weight" in block else "-"
            signs.append("M" if is_mamba else "*" if _any(block, "attn_q.") else rest)
        return {**mamba, "hybrid_override_pattern": "".join(signs)}


def _any(names: set[str], prefix: str) -> bool:
    return any(n.startswith(prefix) for n in names)


# --------------------------------------------------------------------------- Hugging Face Hub

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_WAY_OUT = "choose the model from the catalog, or upload its config.json"


def import_hub(repo_id: str, *, offline: bool) -> Imported:
    """Read a model's config.json and safetensors headers from the Hugging Face Hub.

    Args:
        repo_id: Such as ``Qwen/Qwen3-8B``.
        offline: Whether the network may not be used.

    Returns:
        The model; where the repository has no safetensors files, without weights.

    Raises:
        InputError: Offline, no network, no such repository, or no leave to read it. Never takes
            longer than `HUB_DEADLINE_S`.
    """
    if not isinstance(repo_id, str) or not _REPOSITORY.fullmatch(repo_id) or ".." in repo_id:
        raise InputError(REPOSITORY, "must look like owner/name", repo_id)
    if offline:
        raise InputError(
            REPOSITORY, f"cannot be fetched: the configurator is offline; {_WAY_OUT}", repo_id
        )
    hub = _extra("huggingface_hub")
    done: list[tuple[dict[str, Any], dict[str, _Tensor], list[Assumption]]] = []
    failed: list[Exception] = []

    def fetch() -> None:
        try:
            done.append(_fetch(hub, repo_id))
        except Exception as error:  # whatever the client raises becomes the message below
            failed.append(error)

    worker = threading.Thread(target=fetch, name="hub-import", daemon=True)
    worker.start()
    worker.join(HUB_DEADLINE_S)
    if failed:
        raise _hub_error(failed[0], repo_id) from None
    if not done:
        raise InputError(
            REPOSITORY, f"the Hub did not answer in {HUB_DEADLINE_S:g} s; {_WAY_OUT}", repo_id
        )
    config, tensors, notes = done[0]
    return _from_config(config, repo_id, tensors, notes)


def _fetch(hub: Any, repo_id: str) -> tuple[dict[str, Any], dict[str, _Tensor], list[Assumption]]:
    # Asked first because it is never tried again: without a network the answer comes at once.
    revision = hub.HfApi().model_info(repo_id, timeout=REQUEST_TIMEOUT_S).sha
    path = hub.hf_hub_download(
        repo_id, "config.json", revision=revision, etag_timeout=REQUEST_TIMEOUT_S
    )
    config = _read_json(Path(path))
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        found = hub.get_safetensors_metadata(repo_id, revision=revision, timeout=REQUEST_TIMEOUT_S)
    except errors.NotASafetensorsRepoError:
        return config, {}, [("no_tensors_read", {})]
    tensors = {
        name: _safetensors_entry(
            name,
            {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": list(t.data_offsets)},
        )
        for file in found.files_metadata.values()
        for name, t in file.tensors.items()
    }
    return config, tensors, []


def _hub_error(error: Exception, repo_id: str) -> InputError:
    if isinstance(error, InputError):
        return error
    kind = type(error).__name__
    messages = {
        "GatedRepoError": "is gated: its owner must give you access; " + _WAY_OUT,
        "RepositoryNotFoundError": "is not on the Hub, or is private; check its name",
        "EntryNotFoundError": "has no config.json; download its .gguf file and import that",
        "RemoteEntryNotFoundError": "has no config.json; download its .gguf file and import that",
        "HFValidationError": "must look like owner/name",
    }
    message = messages.get(kind, f"the Hub could not be reached ({kind}); {_WAY_OUT}")
    return InputError(REPOSITORY, message, repo_id)
