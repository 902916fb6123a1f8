"""Every card × count × split as arrays, built once for a catalog and a set of tiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configurator.architecture import Architecture
from configurator.catalog import Catalog, Gpu
from configurator.cost import formulas
from configurator.cost.hosts import Host, load_hosts
from configurator.cost.plan import host_price
from configurator.device import Device, from_catalog, stack
from configurator.parallelism import last_stage_layers, tensor_problem
from configurator.recommend.tiers import Tier

# Model-parallel sizes that engines are run with.
TENSOR_SIZES = (1, 2, 3, 4, 6, 8, 16, 24, 32, 36, 64, 72)
PIPELINE_SIZES = (1, 2, 3, 4, 6, 8, 12, 16)
WHOLE_LAYERS = ("transformers", "llama_cpp")

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Cards:
    """Every card that can be ranked, as columns; ``left_out`` says why others cannot."""

    gpus: tuple[Gpu, ...]
    device: Device
    tdp_w: Floats
    tpp: Floats
    places: Mapping[str, int]
    left_out: Mapping[str, str]


@lru_cache(maxsize=8)
def cards_of(catalog: Catalog) -> Cards:
    """Return the cards of a catalog that have every figure a plan needs."""
    odd = {gpu: item.code for item in load_hosts(catalog).not_modelled for gpu in item.gpus}
    kept: list[Gpu] = []
    devices: list[Device] = []
    left: dict[str, str] = {}
    for gpu in catalog.gpus.values():
        if gpu.id in odd:
            left[gpu.id] = odd[gpu.id]
        elif gpu.bandwidth_bytes_per_s is None:
            left[gpu.id] = "no_bandwidth"
        elif gpu.tdp_w is None:
            left[gpu.id] = "no_power"
        else:
            kept.append(gpu)
            devices.append(from_catalog(gpu))
    return Cards(
        tuple(kept), stack(devices), np.array([gpu.tdp_w.value for gpu in kept if gpu.tdp_w]),
        np.array([processing_performance(gpu) for gpu in kept]),
        {gpu.id: i for i, gpu in enumerate(kept)}, left,
    )  # fmt: skip


_OPERATION_BITS = {"fp32": 32, "tf32": 19, "fp16": 16, "fp16_acc16": 16, "bf16": 16, "int8": 8,
                   "fp8": 8, "fp4": 4}  # fmt: skip


def processing_performance(gpu: Gpu) -> float:
    """Return total processing performance, ``max(TOPS × bits)``, as US export rules count it."""
    rates = ((name, figure.value) for name, figure in gpu.rates.items())
    return max((value * _OPERATION_BITS[name] for name, value in rates), default=0.0)


def host_for(catalog: Catalog, tier: Tier, gpu: Gpu, cards: int) -> Host | None:
    """Return the first of a tier's hosts that takes all the cards, else the largest."""
    facts = load_hosts(catalog)
    hosts = [facts.host(name) for name in tier.hosts]
    fitting = [host for host in hosts if gpu.form_factor in host.form_factors]
    return next((host for host in fitting if host.slots >= cards), fitting[-1] if fitting else None)


@dataclass(frozen=True, eq=False)
class Rows:
    """Tier × card × count: what is bought and what it sits in. Every field has one entry a row."""

    tier: Ints
    card: Ints
    count: Ints
    installed: Floats
    bought: Floats
    hosts: Floats
    hosts_bought: Floats
    switches: Floats
    slots: Ints
    host_w: Floats
    host_low: Floats
    host_usd: Floats
    host_high: Floats
    rack_units: Floats
    spares: Ints
    beside: Ints
    host_ids: tuple[str, ...]


@lru_cache(maxsize=64)
def rows_of(
    catalog: Catalog, tiers: tuple[Tier, ...], owned: tuple[tuple[str, int], ...],
    spare_gpus: int | None, spare_node: bool,
    beside: tuple[tuple[int, int, int], ...] | None = None,
) -> Rows:  # fmt: skip
    """Lay every count of every card out in the first of the tier's hosts that takes it.

    Args:
        catalog: Facts.
        tiers: Who buys.
        owned: Cards that are there already.
        spare_gpus: Cards beyond those in use; the tier's if None.
        spare_node: Whether a whole server is spare.
        beside: Cards that a second load takes, as (tier, card, count); only such rows are made.
    """
    cards, facts = cards_of(catalog), load_hosts(catalog)
    have = dict(owned)
    ports, joined = facts.network.switch_ports.value, facts.network.hosts
    others = None if beside is None else {(t, c): n for t, c, n in beside}
    columns: list[tuple[Any, ...]] = []
    names: list[str] = []
    for t, tier in enumerate(tiers):
        spares = tier.spare_gpus if spare_gpus is None else spare_gpus
        for c, gpu in enumerate(cards.gpus):
            largest = host_for(catalog, tier, gpu, tier.counts[-1] + spares)
            if largest is None or gpu.segment not in tier.segments:
                continue
            if gpu.domain_size < tier.least_domain or (others is not None and (t, c) not in others):
                continue
            second = others[t, c] if others is not None else 0
            for count in tier.counts:
                extra = spares + (largest.slots if spare_node else 0)
                need = count + extra + second
                there = have.get(gpu.id, 0)
                box = host_price(catalog, (host_for(catalog, tier, gpu, need) or largest).id)
                new, installed, machines, new_machines, boxes = formulas.racked(
                    need, there, box.host.slots, box.host.step, ports
                )
                if machines > tier.max_nodes:
                    continue
                columns.append((
                    t, c, count, installed, new, machines,
                    new_machines,
                    boxes if box.host.id in joined else 0, box.host.slots, box.host.host_w.value,
                    box.amount.low, box.amount.value, box.amount.high,
                    box.host.rack_units * machines, extra, second,
                ))  # fmt: skip
                names.append(box.host.id)
    return Rows(**_columns(columns), host_ids=tuple(names))


_COUNTED = ("tier", "card", "count", "slots", "spares", "beside")
_COLUMNS = tuple(name for name in Rows.__dataclass_fields__ if name != "host_ids")


def _columns(records: list[tuple[Any, ...]]) -> dict[str, Any]:
    flat = np.array(records, dtype=float).reshape(-1, len(_COLUMNS)).T
    return {
        name: column.astype(np.intp) if name in _COUNTED else column
        for name, column in zip(_COLUMNS, flat)
    }


@dataclass(frozen=True, eq=False)
class Candidates:
    """Rows × legal splits; every field has one entry a candidate."""

    row: Ints
    tensor: Floats
    pipeline: Floats
    expert: Floats
    data: Floats
    group: Ints
    groups: int
    device: Device


@dataclass(frozen=True)
class SplitRules:
    """What of a model and an engine decides which splits are legal."""

    tensors: tuple[tuple[int, bool], ...]
    experts: int
    pipelines: tuple[int, ...]
    replicas: bool


def split_rules(arch: Architecture, engine: str, training: bool) -> SplitRules:
    """Return the tensor-parallel sizes (and whether each needs expert parallelism) and the rest.

    transformers and llama.cpp put whole layers on cards; data-parallel trainers shard no layer.
    """
    layers = arch.num_layers
    pipelines = tuple(
        size for size in PIPELINE_SIZES
        if size <= layers and (engine != "megatron" or last_stage_layers(layers, size) > 0)
    )  # fmt: skip
    if training and engine != "megatron":
        return SplitRules(((1, False),), 0, (1,), True)
    if engine in WHOLE_LAYERS:
        return SplitRules(((1, False),), 0, pipelines, not training)
    sizes = []
    for size in TENSOR_SIZES:
        if tensor_problem(arch, size, 1) is None:
            sizes.append((size, False))
        elif arch.is_moe and size <= arch.experts and tensor_problem(arch, size, size) is None:
            sizes.append((size, True))
    return SplitRules(tuple(sizes), arch.experts, pipelines, True)


@lru_cache(maxsize=512)
def splits_of(rules: SplitRules, count: int) -> NDArray[np.float64]:
    """Return the legal splits of a number of cards: tensor, pipeline, expert, data, one a line."""
    found: list[tuple[int, int, int, int]] = []
    for tensor, with_experts in rules.tensors:
        for pipeline in rules.pipelines:
            if count % (tensor * pipeline):
                continue
            data = count // (tensor * pipeline)
            if data > 1 and not rules.replicas:
                continue
            found.append((tensor, pipeline, tensor if with_experts else 1, data))
            # Attention data parallelism with the experts over all ranks, evenly.
            wide = tensor * data
            if rules.experts and data > 1 and rules.experts % wide == 0 and pipeline == 1:
                found.append((tensor, pipeline, wide, data))
    return np.array(found, dtype=float).reshape(-1, 4)


@lru_cache(maxsize=64)
def candidates_of(catalog: Catalog, rows: Rows, rules: SplitRules) -> Candidates:
    """Join every row with the splits of its count that lie within a host or a fast domain."""
    cards = cards_of(catalog)
    domain = np.asarray(cards.device.domain_size)
    picked: list[Ints] = []
    parts: list[NDArray[np.float64]] = []
    for r in range(len(rows.count)):
        split = splits_of(rules, int(rows.count[r]))
        slots = int(rows.slots[r])
        tensor = split[:, 0]
        within = (tensor <= max(slots, int(domain[rows.card[r]]))) & (
            (rows.installed[r] <= slots) | (slots % np.maximum(tensor, 1) == 0)
        )
        parts.append(split[within])
        picked.append(np.full(int(within.sum()), r, dtype=np.intp))
    row = np.concatenate(picked) if picked else np.empty(0, dtype=np.intp)
    split = np.concatenate(parts) if parts else np.empty((0, 4))
    card = rows.card[row]
    group = rows.tier[row] * len(cards.gpus) + card
    top = int(group.max()) + 1 if len(group) else 0
    tensor, pipeline, expert, data = (np.ascontiguousarray(column) for column in split.T)
    return Candidates(row, tensor, pipeline, expert, data, group, top, take(cards.device, card))


def take(device: Device, index: Ints | slice | np.intp) -> Device:
    """Return the cards at the given places as one device of arrays."""
    return replace(
        device,
        id=np.asarray(device.id)[index], vendor=device.vendor[index],
        architecture=device.architecture[index], segment=device.segment[index],
        memory_bytes=device.memory_bytes[index],
        bandwidth_bytes_per_s=device.bandwidth_bytes_per_s[index],
        rates={name: rate[index] for name, rate in device.rates.items()},
        link_bytes_per_s=device.link_bytes_per_s[index],
        host_bytes_per_s=device.host_bytes_per_s[index], domain_size=device.domain_size[index],
        a100=device.a100[index],
    )  # fmt: skip
