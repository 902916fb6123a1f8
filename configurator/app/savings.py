"""Ways to need less memory: each tried on the scenario itself, with what it saves. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from configurator.app.curves import need, replaced
from configurator.app.form import SPLITS
from configurator.errors import InputError
from configurator.estimate import Estimate
from configurator.levers import (
    CANNOT_OFFLOAD,
    EIGHT_BIT,
    NO_ADAPTERS,
    SIXTEEN_BIT,
    lighter_weights,
    runs_here,
)
from configurator.memory.serving import OFFLOADING
from configurator.memory.training_state import as_run
from configurator.scenario import Hardware, Scenario

LEAST_SAVING_GIB = 0.05
MORE_CARDS = (2, 4, 8, 16)


@dataclass(frozen=True)
class Saving:
    """One change of the question.

    Attributes:
        code: Its sentence is ``app.saving.<code>``.
        changes: Fields of the form and their new values.
        scenario: The question after it.
        saved_gib: Memory that the fullest card needs less.
        fits: Whether it fits afterwards, the estimate's error included.
        values: Figures of the sentence.
    """

    code: str
    changes: Mapping[str, Any]
    scenario: Scenario
    saved_gib: float
    fits: bool
    values: Mapping[str, Any]


_Try = tuple[str, dict[str, Any], Scenario, dict[str, Any]]


def _serving(answer: Estimate) -> Iterator[_Try]:
    scenario = answer.scenario
    kv = answer.kv.precision if answer.kv else "fp8"
    if kv in SIXTEEN_BIT:
        name = "q8_0" if scenario.engine == "llama_cpp" else "fp8"
        if scenario.engine != "transformers":
            yield (
                "kv_8bit",
                {"kv_cache_precision": name},
                scenario.model_copy(update={"kv_cache_precision": name}),
                {},
            )
    larger = {"weights_8bit": SIXTEEN_BIT, "weights_4bit": (*SIXTEEN_BIT, *EIGHT_BIT)}
    for code, precision in lighter_weights(answer).items():
        if precision is not None and answer.precision in larger[code]:
            update = {"precision": precision}
            yield code, update, scenario.model_copy(update=update), {}
    hardware = scenario.hardware
    if hardware is not None and not hardware.allow_cpu_offload and scenario.engine in OFFLOADING:
        yield (
            "main_memory",
            {"allow_cpu_offload": True},
            replaced(scenario, hardware__allow_cpu_offload=True),
            {},
        )
    fewer = _fewer_users(scenario)
    if fewer:
        yield (
            "fewer_users",
            {"concurrency": fewer},
            replaced(scenario, inference__concurrency=fewer),
            {"count": fewer},
        )


def _fewer_users(scenario: Scenario) -> int:
    """Return the largest share of the requests that fits safely; half if all do or none."""
    wanted = scenario.serving.concurrency
    for share in (0.75, 0.5, 0.25, 0.1, 0.05):
        count = int(wanted * share)
        if count and _safe(replaced(scenario, inference__concurrency=count)):
            return count if not _safe(scenario) else wanted // 2
    return wanted // 2


def _safe(scenario: Scenario) -> bool:
    found = need(scenario)
    return found.high <= found.budget


def _training(answer: Estimate) -> Iterator[_Try]:
    scenario, fitting = answer.scenario, answer.scenario.fitting
    hardware = scenario.hardware

    def one(code: str, field: str, value: Any) -> _Try:
        return code, {field: value}, replaced(scenario, **{f"training__{field}": value}), {}

    if not fitting.gradient_checkpointing:
        yield one("checkpointing", "gradient_checkpointing", True)
    if fitting.optimizer in ("adamw", "muon"):
        yield one("optimizer_8bit", "optimizer", "adamw_8bit")
    if hardware is not None and hardware.gpu_count > 1 and fitting.sharding not in (
        "zero3", "fsdp",
    ):  # fmt: skip
        yield one("shard_all", "sharding", "zero3" if scenario.engine == "deepspeed" else "fsdp")
    if fitting.offload == "none" and ("optimizer", scenario.engine) not in CANNOT_OFFLOAD:
        moved = fitting.model_copy(update={"offload": "optimizer"})
        before, after = (as_run(f, scenario.engine)[1] for f in (fitting, moved))
        handed = after == "deepspeed" != before
        yield one("offload_deepspeed" if handed else "offload", "offload", "optimizer")
    if fitting.micro_batch_size > 1:
        yield one("batch_one", "micro_batch_size", 1)
    if scenario.task != "fine_tuning" or scenario.engine in NO_ADAPTERS:
        return
    if fitting.method == "full":
        yield one("lora", "method", "lora")
    if fitting.method != "qlora" and runs_here(answer, "nf4"):
        update = {
            "precision": "nf4",
            "training": fitting.model_copy(update={"method": "qlora"}),
        }
        yield (
            "qlora",
            {"method": "qlora", "precision": "nf4"},
            scenario.model_copy(update=update),
            {},
        )


def _more_cards(scenario: Scenario) -> Iterator[_Try]:
    """Yield the fewest cards that fit safely, twice as many where none of the sizes does."""
    hardware = scenario.hardware
    assert hardware is not None
    sizes = [hardware.gpu_count * factor for factor in MORE_CARDS]
    wider = [
        scenario.model_copy(
            update={
                "hardware": Hardware(
                    gpu=hardware.gpu,
                    gpu_count=count,
                    allow_cpu_offload=hardware.allow_cpu_offload,
                )
            }
        )
        for count in sizes
    ]
    at = next((i for i, after in enumerate(wider) if _fits_legally(after)), 0)
    changes = {"gpu_count": sizes[at], **dict.fromkeys(SPLITS)}
    yield "more_cards", changes, wider[at], {"count": sizes[at]}


def _fits_legally(scenario: Scenario) -> bool:
    try:
        return _safe(scenario)
    except InputError:
        return False


def savings(answer: Estimate) -> list[Saving]:
    """Return what would need less memory on each card, those that fit first, then by saving."""
    scenario = answer.scenario
    before = need(scenario)
    tries = [*(_training if scenario.is_training else _serving)(answer), *_more_cards(scenario)]
    found = []
    for code, changes, after, values in tries:
        try:
            then = need(after)
        except InputError:
            continue
        saved = before.required - then.required
        if saved >= LEAST_SAVING_GIB:
            found.append(Saving(code, changes, after, saved, then.high <= then.budget, values))
    return sorted(found, key=lambda s: (not s.fits, -s.saved_gib))
