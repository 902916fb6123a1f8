"""Constants that no formula gives, read from ``catalog/engines.yaml``: each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict

from configurator.catalog import catalog_dir, parse_yaml

# llama.cpp's own formats for the same number of bits.
NEAREST_GGUF: Mapping[str, str] = {
    "fp8": "q8_0", "int8": "q8_0", "int4": "q4_k_m", "nf4": "q4_k_m", "mxfp4": "q4_k_m",
    "nvfp4": "q4_k_m",
}  # fmt: skip


class Constant(BaseModel):
    """One measured or documented constant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    unit: str
    source: str
    date: str
    basis: str = "measured"


@lru_cache(maxsize=1)
def engine_constants() -> Mapping[str, Mapping[str, Constant]]:
    """Return ``{section: {name: Constant}}`` of ``catalog/engines.yaml``."""
    path = catalog_dir() / "engines.yaml"
    raw: dict[str, dict[str, Any]] = parse_yaml(path.read_text(encoding="utf-8"))
    return {
        section: {name: Constant.model_validate(item) for name, item in items.items()}
        for section, items in raw.items()
    }


@lru_cache(maxsize=512)
def constant(section: str, name: str) -> float:
    """Return one constant; an unknown name is a programming error (KeyError)."""
    return engine_constants()[section][name].value
