"""Ways to need less memory or be faster, each tried on the scenario itself.

Before and after both come from :func:`configurator.estimate.estimate`; what the engine cannot work
out says so and shows no number. A technique that the scenario already uses is compared with the
scenario without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from configurator.architecture import Architecture
from configurator.engines import constant
from configurator.errors import InputError
from configurator.estimate import Estimate, estimate
from configurator.export.launch import Artifact, artifacts, quantize_script
from configurator.parallelism import Split, legal_tensor_sizes
from configurator.scenario import Scenario, parse_scenario
from configurator.units import GIB
from configurator.words import say

State = Literal["available", "in_use", "not_applicable", "not_computed"]
Group = Literal["memory", "parallel", "speed"]
Changes = Mapping[str, Any]

SIXTEEN_BIT = ("bf16", "fp16", "fp32")
EIGHT_BIT = ("fp8", "int8", "q8_0")
SHARDED = ("zero1", "zero2", "zero3", "fsdp")
# Cards that a split is tried with where there is only one.
PAIR = 2
# From here on vLLM takes larger chunks (0.24, engine/arg_utils.py).
LARGE_CARD_GIB = 70


@dataclass(frozen=True)
class Effect:
    """What an estimate says of one side of a comparison; GiB on the fullest card.

    ``tokens_per_s`` is output of the deployment, or trained tokens; ``stream_tokens_per_s`` one
    user's. None where the task has none.
    """

    weights_gib: float
    kv_cache_gib: float
    activations_gib: float
    gradients_gib: float
    optimizer_gib: float
    framework_gib: float
    required_gib: float
    capacity_gib: float
    host_gib: float
    fits: bool | str
    gpus: int
    tokens_per_s: float | None
    stream_tokens_per_s: float | None
    ttft_s: float | None
    max_concurrency: int | None

    @classmethod
    def of(cls, answer: Estimate) -> Effect:
        """Read an estimate."""
        held, speed = answer.memory, answer.performance
        parts = {
            name: getattr(held, name)
            for name in (
                "weights_gib", "kv_cache_gib", "activations_gib", "gradients_gib",
                "optimizer_gib", "framework_gib", "required_gib", "capacity_gib", "host_gib",
                "fits",
            )
        }  # fmt: skip
        return cls(
            **parts,
            gpus=answer.split.gpus,
            tokens_per_s=speed.train_tokens_per_s or speed.output_tokens_per_s,
            stream_tokens_per_s=1 / speed.tpot_s if speed.tpot_s else None,
            ttft_s=speed.ttft_s,
            max_concurrency=answer.kv.max_concurrency if answer.kv else None,
        )


@dataclass(frozen=True)
class Technique:
    """One technique for one scenario.

    Attributes:
        code: Names and sentences are ``technique.name.<code>`` and ``technique.what.<code>``.
        state: ``available``: ``changes`` apply it; ``in_use``: they take it away again.
        changes: Contract fields (dotted) and their new values.
        reason: Why it applies or not: ``technique.reason.<reason>``, with ``values``.
        before, after: Without and with the technique; None where there is no number.
        scenario: With the technique in it.
    """

    code: str
    group: Group
    state: State
    changes: Changes = field(default_factory=dict)
    reason: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    before: Effect | None = None
    after: Effect | None = None
    scenario: Scenario | None = None
    applied: Estimate | None = field(default=None, repr=False)

    @property
    def saved_gib(self) -> float | None:
        """Memory that the fullest card needs less; negative where it needs more."""
        if self.before is None or self.after is None:
            return None
        return self.before.required_gib - self.after.required_gib

    @property
    def speed_ratio(self) -> float | None:
        """Tokens/s of the deployment with it over without it; None where one side does not fit."""
        if self.before is None or self.after is None:
            return None
        if self.before.fits is False or self.after.fits is False:
            return None
        if not self.before.tokens_per_s or self.after.tokens_per_s is None:
            return None
        return self.after.tokens_per_s / self.before.tokens_per_s

    @cached_property
    def code_files(self) -> tuple[Artifact, ...]:
        """Code that runs the scenario with the technique in it."""
        if self.applied is None:
            return ()
        files = artifacts(self.applied)
        names = {item.name for item in files}
        makes = self.code == "weights_8bit" or self.code == "weights_4bit"
        if makes and "quantize.py" not in names and self.applied.scenario.engine in (
            "vllm", "sglang",
        ):  # fmt: skip
            made = quantize_script(self.applied, self.applied.precision)
            files = (*files, Artifact("quantize.py", "python", made))
        return files

    def name(self, language: str = "en") -> str:
        """Return its name."""
        return say(f"technique.name.{self.code}", language)

    def what(self, language: str = "en") -> str:
        """Return what it does and what it costs, one sentence."""
        return say(f"technique.what.{self.code}", language)

    def why(self, language: str = "en") -> str:
        """Return why it applies, or not."""
        return say(f"technique.reason.{self.reason}", language, **self.values)

    def effect(self, language: str = "en") -> str:
        """Return before and after in words; empty where there is no number."""
        if self.before is None or self.after is None:
            return ""
        text = say(
            "technique.effect.memory", language, before=self.before.required_gib,
            after=self.after.required_gib,
        )  # fmt: skip
        if self.speed_ratio is not None:
            text += say("technique.effect.speed", language, ratio=self.speed_ratio)
        if self.after.host_gib > self.before.host_gib:
            text += say("technique.effect.host", language, gib=self.after.host_gib)
        return text + say("technique.effect.end", language)

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return plain JSON values, texts in a language."""
        return {
            "code": self.code, "group": self.group, "state": self.state,
            "name": self.name(language), "what": self.what(language),
            "reason": self.why(language), "effect": self.effect(language),
            "changes": dict(self.changes), "saved_gib": self.saved_gib,
            "speed_ratio": self.speed_ratio,
            "before": None if self.before is None else _fields(self.before),
            "after": None if self.after is None else _fields(self.after),
            "code_files": [
                {"name": f.name, "language": f.language, "text": f.text} for f in self.code_files
            ],
        }  # fmt: skip


def _fields(effect: Effect) -> dict[str, Any]:
    return {name: getattr(effect, name) for name in Effect.__dataclass_fields__}


def changed(scenario: Scenario, changes: Changes) -> Scenario:
    """Return the scenario with fields changed; None takes an optional field away.

    Args:
        scenario: What is asked.
        changes: Dotted contract fields, as ``training.offload``.

    Raises:
        InputError: A value that the contract does not allow.
    """
    raw: dict[str, Any] = json.loads(scenario.model_dump_json(exclude_none=True))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = raw
        for name in parents:
            place = place.setdefault(name, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return parse_scenario(raw)


@dataclass(frozen=True)
class _Idea:
    """A technique before it is tried: how to switch it on, and off where it is on already."""

    code: str
    group: Group
    on: Changes | None = None
    off: Changes | None = None
    reason: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    computed: bool = True


def techniques(scenario: Scenario) -> tuple[Technique, ...]:
    """Try every technique that the scenario's task knows.

    Args:
        scenario: With hardware.

    Raises:
        InputError: The scenario itself cannot be answered.
    """
    answer = estimate(scenario)
    ideas = _training(answer) if scenario.is_training else _serving(answer)
    return tuple(_try(answer, idea) for idea in ideas)


def _try(answer: Estimate, idea: _Idea) -> Technique:
    common: dict[str, Any] = {"code": idea.code, "group": idea.group, "values": idea.values}
    if not idea.computed:
        return Technique(**common, state="not_computed", reason=idea.reason)
    changes = idea.on if idea.on is not None else idea.off
    if changes is None:
        return Technique(**common, state="not_applicable", reason=idea.reason)
    try:
        scenario = changed(answer.scenario, changes)
        other = estimate(scenario)
    except InputError as error:
        common["values"] = {"problem": f"{error.field}: {error.message}"}
        return Technique(**common, state="not_applicable", reason="refused")
    now, then = Effect.of(answer), Effect.of(other)
    if idea.on is not None:
        return Technique(
            **common, state="available", changes=changes, reason=idea.reason or "applies",
            before=now, after=then, scenario=scenario, applied=other,
        )  # fmt: skip
    return Technique(
        **common, state="in_use", changes=changes, reason=idea.reason or "in_use",
        before=then, after=now, scenario=answer.scenario, applied=answer,
    )  # fmt: skip


# --------------------------------------------------------------------------- training


def _training(answer: Estimate) -> Iterator[_Idea]:
    scenario = answer.scenario
    fitting, split = scenario.fitting, answer.split
    key = "training.gradient_checkpointing"
    on = fitting.gradient_checkpointing
    yield _Idea("checkpointing", "memory", None if on else {key: True}, {key: False})
    for where in ("optimizer", "parameters"):
        code = f"offload_{where}"
        if fitting.offload == where:
            yield _Idea(code, "memory", off={"training.offload": "none"})
        else:
            yield _Idea(code, "memory", {"training.offload": where})
    yield from _sharding(answer)
    if scenario.task == "training":
        for code in ("lora", "qlora"):
            yield _Idea(code, "memory", reason="pretraining")
    else:
        for code in ("lora", "qlora"):
            if fitting.method == code:
                full = {"training.method": "full", "precision": "auto"}
                yield _Idea(code, "memory", off=full)
            else:
                to = "nf4" if code == "qlora" else _base_precision(answer)
                yield _Idea(code, "memory", {"training.method": code, "precision": to})
    if fitting.optimizer in ("adamw_8bit", "paged_adamw_8bit"):
        yield _Idea("optimizer_8bit", "memory", off={"training.optimizer": "adamw"})
    elif fitting.optimizer == "adamw":
        yield _Idea("optimizer_8bit", "memory", {"training.optimizer": "adamw_8bit"})
    else:
        yield _Idea("optimizer_8bit", "memory", reason="other_optimizer",
                    values={"optimizer": fitting.optimizer})  # fmt: skip
    if fitting.mixed_precision == "fp32":
        yield _Idea("mixed_precision", "speed", {"training.mixed_precision": "amp_bf16"})
    else:
        yield _Idea("mixed_precision", "speed", off={"training.mixed_precision": "fp32"})
    yield from _parallel(answer, split)
    yield _Idea("flash_attention", "speed", reason="attention_assumed", computed=False)
    yield _Idea("pruning", "memory", reason="pruning", computed=False)
    yield from _experts(answer)


def _base_precision(answer: Estimate) -> str:
    """Of a LoRA's frozen base: 16 bit, whatever it was."""
    return answer.precision if answer.precision in ("bf16", "fp16") else "bf16"


def _sharding(answer: Estimate) -> Iterator[_Idea]:
    """ZeRO 1 to 3 and FSDP over the data-parallel ranks."""
    fitting, data = answer.scenario.fitting, answer.split.data
    plain = {"training.sharding": "ddp"}
    for code in SHARDED:
        if fitting.sharding == code:
            yield _Idea(code, "memory", off=plain)
        elif data < 2:
            yield _Idea(code, "memory", reason="one_rank")
        else:
            yield _Idea(code, "memory", {"training.sharding": code})


# --------------------------------------------------------------------------- serving


def _serving(answer: Estimate) -> Iterator[_Idea]:
    yield from _quantisation(answer)
    yield from _cache(answer)
    yield from _parallel(answer, answer.split)
    yield from _chunk(answer)
    mtp = bool(answer.architecture.mtp_groups)
    yield _Idea(
        "speculative", "speed", reason="speculative_mtp" if mtp else "speculative", computed=False
    )
    yield _Idea("flash_attention", "speed", reason="attention_assumed", computed=False)
    yield _Idea("weights_offload", "memory", reason="weights_offload", computed=False)
    yield _Idea("pruning", "memory", reason="pruning", computed=False)
    yield from _experts(answer)


def _quantisation(answer: Estimate) -> Iterator[_Idea]:
    gguf = answer.scenario.engine == "llama_cpp"
    names = {
        "weights_8bit": "q8_0" if gguf else "int8",
        "weights_4bit": "q4_k_m" if gguf else "int4",
    }
    if not gguf and answer.device.rate("fp8") > 0 and answer.scenario.engine != "transformers":
        names["weights_8bit"] = "fp8"
    own = answer.precision
    plain = "fp16" if gguf else "bf16"
    for code, precision in names.items():
        here = own in EIGHT_BIT if code == "weights_8bit" else own not in (*SIXTEEN_BIT, *EIGHT_BIT)
        if here:
            yield _Idea(code, "memory", off={"precision": plain})
        elif code == "weights_8bit" and own not in SIXTEEN_BIT:
            yield _Idea(code, "memory", reason="fewer_bits", values={"precision": own})
        else:
            yield _Idea(code, "memory", {"precision": precision}, reason="quality")


def _cache(answer: Estimate) -> Iterator[_Idea]:
    if answer.scenario.engine == "transformers":
        yield _Idea("kv_8bit", "memory", reason="no_cache_precision")
        return
    own = answer.kv.precision if answer.kv else "bf16"
    if own in SIXTEEN_BIT:
        name = "q8_0" if answer.scenario.engine == "llama_cpp" else "fp8"
        yield _Idea("kv_8bit", "memory", {"kv_cache_precision": name})
    else:
        plain = "fp16" if answer.scenario.engine == "llama_cpp" else "bf16"
        yield _Idea("kv_8bit", "memory", off={"kv_cache_precision": plain})


def _chunk(answer: Estimate) -> Iterator[_Idea]:
    """A quarter of the prefill chunk: fewer activations, more steps."""
    engine = answer.scenario.engine
    given = answer.scenario.serving.max_num_batched_tokens
    key = "inference.max_num_batched_tokens"
    if engine == "transformers":
        yield _Idea("chunked_prefill", "memory", reason="no_chunks")
        return
    small = answer.device.memory_bytes < LARGE_CARD_GIB * GIB
    name = {
        "vllm": "max_num_batched_tokens_small" if small else "max_num_batched_tokens",
        "sglang": "chunked_prefill_tokens",
        "tensorrt_llm": "max_num_tokens",
        "llama_cpp": "micro_batch_tokens",
    }[engine]
    default = int(constant(engine, name))
    if given is not None and given < default:
        yield _Idea("chunked_prefill", "memory", off={key: None})
    else:
        yield _Idea("chunked_prefill", "memory", {key: (given or default) // 4})


# --------------------------------------------------------------------------- both


def _split(split: Split, **parts: int) -> Changes:
    """Hardware fields of a split."""
    values = {
        "tensor": split.tensor, "pipeline": split.pipeline, "expert": split.expert,
        "data": split.data, **parts,
    }  # fmt: skip
    count = values["tensor"] * values["pipeline"] * values["data"]
    return {
        "hardware.gpu_count": count,
        "hardware.tensor_parallel": values["tensor"],
        "hardware.pipeline_parallel": values["pipeline"],
        "hardware.expert_parallel": values["expert"],
        "hardware.data_parallel": values["data"],
    }


def _parallel(answer: Estimate, split: Split) -> Iterator[_Idea]:
    """Each kind of split over the cards at hand, or over two where there is one."""
    scenario, arch = answer.scenario, answer.architecture
    count = split.gpus if split.gpus > 1 else PAIR
    values = {"count": count}
    engine = scenario.engine
    tensor_engines = ("vllm", "sglang", "tensorrt_llm", "megatron")
    kinds: tuple[tuple[str, int], ...] = (
        ("tensor", split.tensor), ("pipeline", split.pipeline), ("data", split.data),
    )  # fmt: skip
    for kind, own in kinds:
        code = f"{kind}_parallel"
        if own > 1:
            off = _split(split, **{kind: 1}, expert=_less(split, kind))
            yield _Idea(code, "parallel", off=off, reason="split_in_use", values={"count": own})
            continue
        if kind == "tensor" and engine not in tensor_engines:
            yield _Idea(code, "parallel", reason="engine_cannot", values={"engine": engine})
            continue
        if kind == "pipeline" and scenario.is_training and engine != "megatron":
            yield _Idea(code, "parallel", reason="engine_cannot", values={"engine": engine})
            continue
        if kind == "data" and engine == "llama_cpp":
            yield _Idea(code, "parallel", reason="engine_cannot", values={"engine": engine})
            continue
        size = count
        if kind == "tensor":
            size = max(t for t in legal_tensor_sizes(arch, count) if count % t == 0)
        whole = {"tensor": 1, "pipeline": 1, "data": 1, "expert": 1}
        if size == 1:
            yield _Idea(code, "parallel", reason="heads", values=values)
            continue
        rest = count // size
        spread = {**whole, kind: size}
        if rest > 1:
            spread["data"] = rest
        reason = "split_pair" if split.gpus == 1 else "split"
        yield _Idea(code, "parallel", _split(split, **spread), reason=reason, values=values)
    if not arch.is_moe:
        yield _Idea("expert_parallel", "parallel", reason="dense")
    elif engine not in tensor_engines:
        yield _Idea(
            "expert_parallel", "parallel", reason="engine_cannot", values={"engine": engine}
        )
    elif split.expert > 1:
        off = _split(split, expert=1)
        yield _Idea("expert_parallel", "parallel", off=off, reason="split_in_use",
                    values={"count": split.expert})  # fmt: skip
    elif split.gpus == 1:
        yield _Idea("expert_parallel", "parallel", _split(split, tensor=PAIR, expert=PAIR),
                    reason="split_pair", values=values)  # fmt: skip
    else:
        over = split.tensor * split.data
        yield _Idea("expert_parallel", "parallel", _split(split, expert=over), reason="split",
                    values={"count": over})  # fmt: skip


def _less(split: Split, kind: str) -> int:
    """Expert ranks left when a kind of split goes."""
    gone = getattr(split, kind)
    return max(1, split.expert // gone) if kind in ("tensor", "data") else split.expert


def _experts(answer: Estimate) -> Iterator[_Idea]:
    """The same number of weights as one dense model."""
    arch: Architecture = answer.architecture
    if not arch.is_moe:
        yield _Idea("experts", "speed", reason="dense")
        return
    values = {"total": arch.parameters / 1e9, "active": arch.active_parameters / 1e9}
    size = round(arch.parameters / 1e9, 1)
    yield _Idea("experts", "speed", off={
        "model": {"parameters_b": size}, "precision": answer.precision,
        "hardware.expert_parallel": None,
    }, reason="experts", values=values)  # fmt: skip


CODES: tuple[str, ...] = (
    "checkpointing", "offload_optimizer", "offload_parameters", *SHARDED, "lora", "qlora",
    "optimizer_8bit", "mixed_precision", "tensor_parallel", "pipeline_parallel", "data_parallel",
    "expert_parallel", "weights_8bit", "weights_4bit", "kv_8bit", "chunked_prefill",
    "speculative", "flash_attention", "weights_offload", "pruning", "experts",
)  # fmt: skip
