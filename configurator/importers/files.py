"""Models from files: one file, a folder, or the first bytes of an upload."""

from __future__ import annotations

from pathlib import Path

from configurator.architecture.tables import Assumption
from configurator.errors import InputError
from configurator.importers.config import from_config, from_tensors
from configurator.importers.gguf_header import (
    MAGIC,
    Gguf,
    open_gguf,
    read_gguf,
    split_name,
    starts_like_gguf,
)
from configurator.importers.gguf_model import from_gguf
from configurator.importers.safetensors_header import open_safetensors, parse_safetensors
from configurator.importers.shared import (
    FILE,
    MAX_CONFIG,
    MAX_HEADER,
    Imported,
    Tensor,
    parse_json,
    read_json,
)

_KINDS = "must be a .gguf or .safetensors file, a config.json, or a folder that holds them"


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
    try:
        path = Path(path).expanduser()
        if path.is_dir():
            return _import_folder(path)
        if not path.is_file():
            raise InputError(FILE, "not_there", str(path))
        kind = path.suffix.lower()
        if kind == ".json":
            return from_config(read_json(path), path.parent.resolve().name or path.name, {}, ())
        if kind == ".safetensors":
            return _import_safetensors_file(path)
        if kind == ".gguf" or starts_like_gguf(path):
            return _import_gguf_file(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ of a user who is not there
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(FILE, "unreadable", str(path), reason=reason) from None
    raise InputError(FILE, "file_kinds", path.name)


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
    if data[:4] == MAGIC or stem.lower().endswith(".gguf"):
        gguf = read_gguf(data)
        if gguf.parts > 1:
            raise InputError(FILE, "one_part", name, parts=gguf.parts)
        return from_gguf(gguf, stem)
    if stem.lower().endswith(".json") or data.lstrip()[:1] == b"{":
        if len(data) > MAX_CONFIG:
            raise InputError(FILE, "config_too_large", name)
        return from_config(parse_json(data, "config.json"), Path(stem).stem, {}, ())
    if stem.lower().endswith(".safetensors") or data[8:9] == b"{":
        return from_tensors(parse_safetensors(data), Path(stem).stem)
    raise InputError(FILE, "file_kinds", name)


def _import_safetensors_file(path: Path) -> Imported:
    """Read one file, with the config.json beside it where there is one."""
    if (path.parent / "config.json").is_file():
        return _import_folder(path.parent, path)
    return from_tensors(open_safetensors(path), path.stem)


def _import_folder(folder: Path, only: Path | None = None) -> Imported:
    name = folder.resolve().name or "model"
    config_file = folder / "config.json"
    if not config_file.is_file():
        return _import_folder_without_config(folder, name)
    config = read_json(config_file)
    quantization_file = folder / "hf_quant_config.json"
    if "quantization_config" not in config and quantization_file.is_file():
        config["quantization_config"] = read_json(quantization_file)
    files, listed = _shards(folder, only)
    missing = [f.name for f in files if not f.is_file()]
    notes: list[Assumption] = []
    tensors: dict[str, Tensor] = {}
    if missing:
        notes.append(("weight_files_missing", {"count": len(missing), "of": len(files)}))
    else:
        for file in files:
            tensors.update(open_safetensors(file))
        if listed is not None and not listed <= tensors.keys():
            raise InputError(FILE, "lacks_tensors", name)
    return from_config(config, name, tensors, notes)


def _import_folder_without_config(folder: Path, name: str) -> Imported:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".gguf")
    models = {split_name(p)[0]: p for p in found if not p.name.lower().startswith("mmproj")}
    if len(models) == 1:
        return _import_gguf_file(next(iter(models.values())))
    if models:
        raise InputError(FILE, "many_ggufs", name, count=len(models))
    files, _ = _shards(folder, None)
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors.update(open_safetensors(file))
    if not tensors:
        raise InputError(FILE, "empty_folder", name)
    return from_tensors(tensors, name)


def _shards(folder: Path, only: Path | None) -> tuple[list[Path], set[str] | None]:
    """Return a folder's weight files, and the tensors that its index lists."""
    index_file = folder / "model.safetensors.index.json"
    if index_file.is_file():
        with index_file.open("rb") as file:
            data = file.read(MAX_HEADER + 1)
        if len(data) > MAX_HEADER:
            raise InputError(FILE, "index_too_large", index_file.name)
        places = parse_json(data, index_file.name).get("weight_map")
        if not isinstance(places, dict) or not all(
            isinstance(p, str) and p and Path(p).name == p for p in places.values()
        ):
            raise InputError(FILE, "weight_map", index_file.name)
        names = sorted(set(places.values()))
        if only is None or only.name in names:
            return [folder / n for n in names], set(places)
    if only is not None:
        return [only], None
    found = sorted(folder.glob("*.safetensors"))
    own = [p for p in found if p.name.startswith("model")]
    return own or found, None


def _import_gguf_file(path: Path) -> Imported:
    name, named = split_name(path)
    gguf = open_gguf(path)
    if gguf.parts > 1 or named > 1:
        count = max(gguf.parts, named)
        files = [path.with_name(f"{name}-{i:05}-of-{count:05}.gguf") for i in range(1, count + 1)]
        missing = next((f.name for f in files if not f.is_file()), None)
        if missing:
            raise InputError(FILE, "part_missing", name, count=count, missing=missing)
        parts = [open_gguf(f) for f in files]
        gguf = Gguf(parts[0].meta, {k: t for p in parts for k, t in p.tensors.items()})
    return from_gguf(gguf, name)
