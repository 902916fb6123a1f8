"""Measured efficiencies: read from ``catalog/efficiency.yaml``, put together per card and engine.

A coefficient's value is a pooled value times the factors that apply: of the engine, the GPU
architecture, the precision, the card itself. Where a level has no data its factor is absent, so an
unseen card takes its architecture's figures and an unseen architecture the pooled ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from configurator.architecture import Architecture
from configurator.catalog import catalog_dir, load_catalog, parse_yaml

FAMILIES = {
    "vllm": "serving", "sglang": "serving", "tensorrt_llm": "serving", "transformers": "eager",
    "llama_cpp": "llama_cpp",
}  # fmt: skip
FILE = "efficiency.yaml"


@lru_cache(maxsize=1)
def efficiency() -> Mapping[str, Any]:
    """Return the decoded ``catalog/efficiency.yaml``."""
    raw: Mapping[str, Any] = parse_yaml((catalog_dir() / FILE).read_text(encoding="utf-8"))
    return raw


def precision_class(precision: str, method: str | None) -> str:
    """Return what efficiencies are kept by: AWQ apart from other 4-bit kernels, 16 bit as one."""
    if precision == "int4" and method == "awq":
        return "awq"
    if precision in ("fp16", "bf16"):
        return "16bit"
    if precision == "int8" and method in ("gptq", "awq"):
        return "int8_weight_only"
    return precision


def context_key(level: str, context: Mapping[str, str]) -> str:
    """Return a factor's key, e.g. ``vllm/Hopper`` for the level ``engine/architecture``."""
    return "/".join(context[part] for part in level.split("/"))


def resolve(family: str, context: Mapping[str, str]) -> dict[str, float]:
    """Return every coefficient of a family for one engine, precision and card."""
    out: dict[str, float] = {}
    for name, item in efficiency()["families"][family]["coefficients"].items():
        value = float(item["value"])
        for level, factors in item.get("factors", {}).items():
            value *= float(factors.get(context_key(level, context), 1.0))
        out[name] = value
    return out


def chip_of(card: str) -> str:
    """Return the card that a card's own factors are kept under: one chip, one set of factors."""
    known = load_catalog().gpus.get(card)
    return (known and known.same_chip_as) or card


@lru_cache(maxsize=8192)
def _resolved(
    family: str, engine: str, precision: str, card: str, architecture: str, vendor: str,
    segment: str,
) -> Mapping[str, float]:  # fmt: skip
    return resolve(
        family,
        {
            "engine": engine, "precision": precision, "card": chip_of(card),
            "architecture": architecture, "vendor": vendor, "segment": segment,
        },
    )  # fmt: skip


CardKey = tuple[str, str, str, str]
_CONTEXTS: dict[int, tuple[Any, list[CardKey], np.ndarray]] = {}
_CONTEXTS_KEPT = 16


def card_contexts(device: Any) -> tuple[list[CardKey], np.ndarray | None]:
    """Return the distinct cards of a device and, for many, each one's place among them.

    Kept for the last few devices by identity: one ranking asks for the same ones many times.
    """
    if isinstance(device.id, str):
        return [(device.id, device.architecture, device.vendor, device.segment)], None
    known = _CONTEXTS.get(id(device))
    if known is not None and known[0] is device:
        return known[1], known[2]
    columns = [
        np.asarray(x) for x in (device.id, device.architecture, device.vendor, device.segment)
    ]
    # A ranking's rows come card by card: what follows its like needs no look.
    starts = np.ones(len(columns[0]), dtype=bool)
    starts[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    at = np.flatnonzero(starts)
    places: dict[CardKey, int] = {}
    keys = zip(*(column[at].tolist() for column in columns), strict=True)
    found = np.array([places.setdefault(key, len(places)) for key in keys], dtype=np.intp)
    index = np.repeat(found, np.diff(at, append=len(starts)))
    if len(_CONTEXTS) >= _CONTEXTS_KEPT:
        _CONTEXTS.clear()
    _CONTEXTS[id(device)] = (device, list(places), index)
    return list(places), index


def coefficients(family: str, engine: str, precision: str, device: Any) -> dict[str, Any]:
    """Return the coefficients for a card (numbers) or for many (arrays)."""
    cards, index = card_contexts(device)
    tables = [_resolved(family, engine, precision, *card) for card in cards]
    if index is None:
        return dict(tables[0])
    return {name: np.array([t[name] for t in tables])[index] for name in tables[0]}


def model_key(arch: Architecture) -> str:
    """Same shape, same model: fine-tunes and re-releases of one model count as one."""
    return f"{arch.model_type}-{arch.hidden_size}x{arch.num_layers}x{arch.experts}"


def measured_cards(family: str, engine: str) -> tuple[str, ...]:
    """Return the catalog ids, or own names, of the cards that an engine's speed was measured on."""
    seen = efficiency()["families"][family]["seen"].get(engine)
    return tuple(seen["cards"]) if seen else ()


def data_class(family: str, engine: str, card: str, architecture: str, model: str) -> str:
    """Say how near the nearest measurements with this engine are.

    ``same``: card and model both measured; ``model``: the model is not; ``card``: the card is not,
    another of its architecture is; ``none``: neither.
    """
    seen = efficiency()["families"][family]["seen"].get(engine)
    if seen is None or architecture not in seen["architectures"]:
        return "none"
    if card not in seen["cards"]:
        return "card"
    return "same" if model in seen["models"] else "model"


@dataclass(frozen=True)
class LeftOut:
    """Median error of one speed, with one engine: on the rows fitted, and with something left out.

    Attributes:
        quantity: Path in the estimate.
        fitted, model, card: With nothing, with the row's model, with its card left out of the fit.
    """

    quantity: str
    engine: str
    n: int
    fitted: float
    model: float
    card: float


def left_out() -> list[LeftOut]:
    """Return how far off speed is on what the coefficients have not seen."""
    return [
        LeftOut(f"performance.{name}", engine, e["n"], e["fit"][0], e["model"][0], e["card"][0])
        for family in efficiency()["families"].values()
        for engine, quantities in family["errors"].items()
        for name, e in quantities.items()
    ]


def interval(
    family: str, engine: str, quantity: str, device: Any, arch: Architecture
) -> tuple[Any, Any]:
    """Return the factors that lead from the middle to the low and the high 90 % bound."""
    tables = efficiency()["families"][family]["intervals"]
    table = tables.get(engine, tables["any"])[quantity]
    cards, index = card_contexts(device)
    model = model_key(arch)
    pairs = [table[data_class(family, engine, card[0], card[1], model)] for card in cards]
    if index is None:
        return float(pairs[0][0]), float(pairs[0][1])
    both = np.array(pairs, dtype=float)[index]
    return both[:, 0], both[:, 1]
