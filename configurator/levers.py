"""What can be pulled for one answered scenario: each technique and the fields that switch it.

Nothing is worked out here; :mod:`configurator.techniques` tries each on the scenario.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args

from configurator.architecture import Architecture
from configurator.catalog import load_catalog
from configurator.cost.hosts import load_hosts
from configurator.engines import constant
from configurator.estimate import Estimate
from configurator.export.checkpoints import pruner, quantizer
from configurator.export.serving import drafts_itself
from configurator.export.shell import Artifact, file_stem
from configurator.memory import sglang, vllm
from configurator.memory.serving import OFFLOADING
from configurator.parallelism import Kind, Split, legal_tensor_sizes, splits_of_engine
from configurator.performance.serving import TYPICAL_ACCEPTANCE, Speculative, static_share
from configurator.scenario import ConfigModel, Inference, Scenario, SizeModel

Group = Literal["memory", "parallel", "speed"]
Changes = Mapping[str, Any]

SIXTEEN_BIT = ("bf16", "fp16", "fp32")
EIGHT_BIT = ("fp8", "int8", "q8_0")
# Megatron moves states alone to the host, FSDP all or nothing.
CANNOT_OFFLOAD = {("parameters", "megatron"), ("optimizer", "fsdp")}
NO_ADAPTERS = ("megatron",)
SHARDED = ("zero1", "zero2", "zero3", "fsdp")
# FSDP2 shards gradients with the states; DeepSpeed knows its own stages only.
UNSHARED = {"fsdp": ("zero1",), "deepspeed": ("fsdp",)}
# Cards that a split is tried with where there is only one.
PAIR = 2
# What is tried where the load says nothing: half of each prompt as in the one before; one token
# drafted by a model's own layer (its recipes' default), three looked up in the prompt.
SHARED_PREFIX = 0.5
MTP_DRAFTS, LOOKUP_DRAFTS = 1, 3
# Share of each MLP's channels that pruning takes out, and what the rest is a multiple of.
PRUNED, PRUNED_STEP = 0.25, 64


# What has to be run once before, its comments in a language.
Files = Callable[[str], tuple[Artifact, ...]]


def no_files(_language: str) -> tuple[Artifact, ...]:
    """Return nothing: there is nothing to be run before."""
    return ()


@dataclass(frozen=True)
class Lever:
    """A technique before it is tried: how to switch it on, and off where it is on already."""

    code: str
    group: Group
    on: Changes | None = None
    off: Changes | None = None
    reason: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    computed: bool = True
    files: Files = no_files


# --------------------------------------------------------------------------- training


def training_levers(answer: Estimate) -> Iterator[Lever]:
    """Yield what training knows: memory first, then splits and speed."""
    scenario = answer.scenario
    fitting, split = scenario.fitting, answer.split
    key = "training.gradient_checkpointing"
    on = fitting.gradient_checkpointing
    yield Lever("checkpointing", "memory", None if on else {key: True}, {key: False})
    for where in ("optimizer", "parameters"):
        code = f"offload_{where}"
        if fitting.offload == where:
            yield Lever(code, "memory", off={"training.offload": "none"})
        elif (where, scenario.engine) in CANNOT_OFFLOAD:
            yield Lever(code, "memory", reason="engine_cannot", values={"engine": scenario.engine})
        else:
            yield Lever(code, "memory", {"training.offload": where})
    yield from _sharding(answer)
    if scenario.task == "training":
        for code in ("lora", "qlora"):
            yield Lever(code, "memory", reason="pretraining")
    else:
        for code in ("lora", "qlora"):
            if scenario.engine in NO_ADAPTERS:
                values = {"engine": scenario.engine}
                yield Lever(code, "memory", reason="engine_cannot", values=values)
            elif code == "qlora" and not runs_here(answer, "nf4"):
                values = {"gpu": answer.device.name}
                yield Lever(code, "memory", reason="card_cannot", values=values)
            elif fitting.method == code:
                full = {"training.method": "full", "precision": "auto"}
                yield Lever(code, "memory", off=full)
            else:
                to = "nf4" if code == "qlora" else _base_precision(answer)
                yield Lever(code, "memory", {"training.method": code, "precision": to})
    if fitting.optimizer in ("adamw_8bit", "paged_adamw_8bit"):
        yield Lever("optimizer_8bit", "memory", off={"training.optimizer": "adamw"})
    elif fitting.optimizer == "adamw":
        yield Lever("optimizer_8bit", "memory", {"training.optimizer": "adamw_8bit"})
    else:
        yield Lever("optimizer_8bit", "memory", reason="other_optimizer",
                    values={"optimizer": fitting.optimizer})  # fmt: skip
    if fitting.mixed_precision == "fp32":
        yield Lever("mixed_precision", "speed", {"training.mixed_precision": "amp_bf16"})
    else:
        yield Lever("mixed_precision", "speed", off={"training.mixed_precision": "fp32"})
    yield from _parallel(answer, split)
    yield Lever("flash_attention", "speed", reason="attention_assumed", computed=False)
    yield _pruning(answer)
    yield from _experts(answer)


def _base_precision(answer: Estimate) -> str:
    """Of a LoRA's frozen base: 16 bit, whatever it was."""
    return answer.precision if answer.precision in ("bf16", "fp16") else "bf16"


def _sharding(answer: Estimate) -> Iterator[Lever]:
    """ZeRO 1 to 3 and FSDP over the data-parallel ranks."""
    fitting, data = answer.scenario.fitting, answer.split.data
    plain = {"training.sharding": "ddp"}
    engine = answer.scenario.engine
    for code in SHARDED:
        if code in UNSHARED.get(engine, ()):
            yield Lever(code, "memory", reason="engine_cannot", values={"engine": engine})
        elif fitting.sharding == code:
            yield Lever(code, "memory", off=plain)
        elif data < 2:
            yield Lever(code, "memory", reason="one_rank")
        else:
            yield Lever(code, "memory", {"training.sharding": code})


# --------------------------------------------------------------------------- serving


def serving_levers(answer: Estimate) -> Iterator[Lever]:
    """Yield what serving knows: memory first, then splits and speed."""
    yield from _quantisation(answer)
    yield from _cache(answer)
    yield from _parallel(answer, answer.split)
    yield from _chunk(answer)
    yield from _batching(answer)
    yield from _prefix(answer)
    yield from _speculative(answer)
    yield Lever("flash_attention", "speed", reason="attention_assumed", computed=False)
    yield _weights_offload(answer)
    yield _pruning(answer)
    yield from _experts(answer)


def _weights_offload(answer: Estimate) -> Lever:
    code, hardware = "weights_offload", answer.scenario.hardware
    if answer.scenario.engine not in OFFLOADING:
        return Lever(code, "memory", reason="no_weights_offload")
    if hardware is not None and hardware.allow_cpu_offload:
        return Lever(code, "memory", off={"hardware.allow_cpu_offload": False})
    if answer.memory.fits is True:
        return Lever(code, "memory", reason="weights_fit")
    return Lever(code, "memory", {"hardware.allow_cpu_offload": True})


def lighter_weights(answer: Estimate) -> Mapping[str, str | None]:
    """Return the precision with 8 and with 4 bits a weight that runs here, by the technique's code.

    What the card computes in comes first; None where the engine runs no such weights on the card.
    """
    device, engine = answer.device, answer.scenario.engine
    eight, four = ["int8"], ["int4"]
    if engine == "llama_cpp":
        eight, four = ["q8_0"], ["q4_k_m"]
    elif device.rate("fp8") > 0 and engine != "transformers":
        eight = ["fp8", "int8"]
    if device.rate("fp4") > 0 and engine in ("vllm", "sglang", "tensorrt_llm"):
        four = ["nvfp4", "int4"]
    codes = {"weights_8bit": eight, "weights_4bit": four}
    return {
        code: next(filter(partial(runs_here, answer), own), None) for code, own in codes.items()
    }


def runs_here(answer: Estimate, precision: str) -> bool:
    """Return whether the engine runs weights in a precision on the card."""
    hardware = answer.scenario.hardware
    if hardware is None or not isinstance(hardware.gpu, str):
        return True
    catalog = load_catalog()
    gpu = catalog.gpu(hardware.gpu)
    refusal = load_hosts(catalog).refusal(gpu, answer.scenario, answer.architecture, precision)
    return refusal is None


def _quantisation(answer: Estimate) -> Iterator[Lever]:
    own = answer.precision
    plain = "fp16" if answer.scenario.engine == "llama_cpp" else "bf16"
    for code, precision in lighter_weights(answer).items():
        here = own in EIGHT_BIT if code == "weights_8bit" else own not in (*SIXTEEN_BIT, *EIGHT_BIT)
        if here:
            files = partial(quantizer, answer, own)
            yield Lever(code, "memory", off={"precision": plain}, files=files)
        elif code == "weights_8bit" and own not in SIXTEEN_BIT:
            yield Lever(code, "memory", reason="fewer_bits", values={"precision": own})
        elif precision is None:
            yield Lever(code, "memory", reason="card_cannot", values={"gpu": answer.device.name})
        else:
            files = partial(quantizer, answer, precision)
            yield Lever(code, "memory", {"precision": precision}, reason="quality", files=files)


def _cache(answer: Estimate) -> Iterator[Lever]:
    if answer.scenario.engine == "transformers":
        yield Lever("kv_8bit", "memory", reason="no_cache_precision")
        return
    own = answer.kv.precision if answer.kv else "bf16"
    if own in SIXTEEN_BIT:
        name = "q8_0" if answer.scenario.engine == "llama_cpp" else "fp8"
        yield Lever("kv_8bit", "memory", {"kv_cache_precision": name})
    else:
        plain = "fp16" if answer.scenario.engine == "llama_cpp" else "bf16"
        yield Lever("kv_8bit", "memory", off={"kv_cache_precision": plain})


def _chunk(answer: Estimate) -> Iterator[Lever]:
    """A quarter of the prefill chunk: fewer activations, more steps."""
    engine = answer.scenario.engine
    given = answer.scenario.serving.max_num_batched_tokens
    key = "inference.max_num_batched_tokens"
    if engine == "transformers":
        yield Lever("chunked_prefill", "memory", reason="no_chunks")
        return
    memory, plain = answer.device.memory_bytes, Inference()
    large = vllm.has_large_defaults(memory, answer.device.a100, answer.scenario.engine_version)
    default = int({
        "vllm": vllm.batched_tokens(plain, large),
        "sglang": sglang.prefill_tokens(plain, memory),
        "tensorrt_llm": constant("tensorrt_llm", "max_num_tokens"),
        "llama_cpp": constant("llama_cpp", "micro_batch_tokens"),
    }[engine])  # fmt: skip
    if given is not None and given < default:
        yield Lever("chunked_prefill", "memory", off={key: None}, reason="chunk",
                    values={"before": default, "after": given})  # fmt: skip
    else:
        smaller = max(1, (given or default) // 4)
        yield Lever("chunked_prefill", "memory", {key: smaller}, reason="chunk",
                    values={"before": given or default, "after": smaller})  # fmt: skip


def _batching(answer: Estimate) -> Iterator[Lever]:
    """Requests side by side in one batch, against one after another."""
    scenario, kv, speed = answer.scenario, answer.kv, answer.performance
    key, data = "inference.max_num_seqs", answer.split.data
    if scenario.engine == "transformers":
        yield Lever("batching", "speed", reason="no_batching")
        return
    if scenario.serving.concurrency <= data:
        yield Lever("batching", "speed", reason="one_request")
        return
    if scenario.serving.max_num_seqs == 1:
        yield Lever("batching", "speed", {key: None})
        return
    if speed.output_tokens_per_s is None or speed.decode_tokens_per_s is None:
        yield Lever("batching", "speed", reason="speed_unknown")
        return
    most = (kv.max_concurrency or 1) if kv else 1
    together = max(1.0, min(scenario.serving.concurrency, most) / data)
    static = static_share(together, speed.output_tokens_per_s, speed.decode_tokens_per_s)
    yield Lever("batching", "speed", off={key: 1}, reason="batching",
                values={"static": 1.0 - float(static)})  # fmt: skip


def _prefix(answer: Estimate) -> Iterator[Lever]:
    """Half of each prompt known from an earlier one, or as much as the load says."""
    key, inference = "inference.prefix_cache_share", answer.scenario.serving
    if inference.prefix_cache_share:
        yield Lever("prefix_cache", "speed", off={key: None}, reason="prefix_in_use",
                    values={"share": inference.prefix_cache_share})  # fmt: skip
    elif answer.scenario.engine == "transformers":
        yield Lever("prefix_cache", "speed", reason="no_prefix_cache")
    elif inference.input_tokens < 2:
        yield Lever("prefix_cache", "speed", reason="no_prompt")
    else:
        tokens = round(inference.input_tokens * SHARED_PREFIX)
        yield Lever("prefix_cache", "speed", {key: SHARED_PREFIX}, reason="prefix",
                    values={"tokens": tokens, "prompt": inference.input_tokens})  # fmt: skip


def _speculative(answer: Estimate) -> Iterator[Lever]:
    """Tokens drafted by the model's own extra layer, else looked up in the prompt."""
    inference, own = answer.scenario.serving, drafts_itself(answer)
    if answer.scenario.engine == "transformers" and inference.concurrency > 1:
        yield Lever("speculative", "speed", reason="no_drafts_in_batch")
        return
    count = inference.speculative_tokens or (MTP_DRAFTS if own else LOOKUP_DRAFTS)
    accepted = inference.acceptance_rate
    draft = Speculative(count, TYPICAL_ACCEPTANCE if accepted is None else accepted)
    lever = Lever(
        "speculative", "speed", {"inference.speculative_tokens": count},
        reason="drafts_own" if own else "drafts_lookup",
        values={"count": count, "accepted": draft.acceptance, "tokens": draft.tokens_per_step},
    )  # fmt: skip
    if inference.speculative_tokens:
        off = {"inference.speculative_tokens": None, "inference.acceptance_rate": None}
        lever = replace(lever, on=None, off=off)
    yield lever


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


def _parallel(answer: Estimate, split: Split) -> Iterator[Lever]:
    """Each kind of split over the cards at hand, or over two where there is one."""
    scenario, arch = answer.scenario, answer.architecture
    count = split.gpus if split.gpus > 1 else PAIR
    values = {"count": count}
    engine = scenario.engine
    able = splits_of_engine(engine, scenario.is_training)
    kinds: tuple[tuple[Kind, int], ...] = (
        ("tensor", split.tensor), ("pipeline", split.pipeline), ("data", split.data),
    )  # fmt: skip
    for kind, own in kinds:
        code = f"{kind}_parallel"
        if own > 1:
            off = _split(split, **{kind: 1}, expert=_less(split, kind))
            yield Lever(code, "parallel", off=off, reason="split_in_use", values={"count": own})
            continue
        if kind not in able:
            yield Lever(code, "parallel", reason="engine_cannot", values={"engine": engine})
            continue
        size = count
        if kind == "tensor":
            size = max(t for t in legal_tensor_sizes(arch, count) if count % t == 0)
        whole = {"tensor": 1, "pipeline": 1, "data": 1, "expert": 1}
        if size == 1:
            yield Lever(code, "parallel", reason="heads", values=values)
            continue
        rest = count // size
        spread = {**whole, kind: size}
        if rest > 1:
            spread["data"] = rest
        reason = "split_pair" if split.gpus == 1 else "split"
        yield Lever(code, "parallel", _split(split, **spread), reason=reason, values=values)
    if not arch.is_moe:
        yield Lever("expert_parallel", "parallel", reason="dense")
    elif "expert" not in able:
        yield Lever(
            "expert_parallel", "parallel", reason="engine_cannot", values={"engine": engine}
        )
    elif split.expert > 1:
        off = _split(split, expert=1)
        yield Lever("expert_parallel", "parallel", off=off, reason="split_in_use",
                    values={"count": split.expert})  # fmt: skip
    elif split.gpus == 1:
        yield Lever("expert_parallel", "parallel", _split(split, tensor=PAIR, expert=PAIR),
                    reason="split_pair", values=values)  # fmt: skip
    else:
        over = split.tensor * split.data
        yield Lever("expert_parallel", "parallel", _split(split, expert=over), reason="split",
                    values={"count": over})  # fmt: skip


def _less(split: Split, kind: str) -> int:
    """Expert ranks left when a kind of split goes."""
    gone = getattr(split, kind)
    return max(1, split.expert // gone) if kind in ("tensor", "data") else split.expert


def _pruning(answer: Estimate) -> Lever:
    """A quarter of every gated MLP's channels taken out: a narrower model, not zeros in it."""
    scenario, arch = answer.scenario, answer.architecture
    if scenario.task == "training":
        return Lever("pruning", "memory", reason="pretraining")
    config = _own_config(scenario)
    text: dict[str, Any] = config.get("text_config", config)
    width = text.get("intermediate_size")
    modules = {m.module or m.name for g in arch.groups for m in g.layer.matrices}
    if (
        not isinstance(width, int) or arch.is_moe or arch.quantization
        or "gate_proj" not in modules
    ):  # fmt: skip
        return Lever("pruning", "memory", reason="pruning", computed=False)
    kept = round(width * (1 - PRUNED) / PRUNED_STEP) * PRUNED_STEP
    narrow = {**text, "intermediate_size": kept}
    whole = narrow if text is config else {**config, "text_config": narrow}
    name = f"{file_stem(answer)}-pruned"
    return Lever(
        "pruning", "memory", {"model": {"config": whole, "name": name}}, reason="pruned",
        values={"width": width, "kept": kept},
        files=partial(pruner, answer, name, kept),
    )  # fmt: skip


def _own_config(scenario: Scenario) -> dict[str, Any]:
    """Return the config.json of a scenario's model; empty for a model of a size alone."""
    if isinstance(scenario.model, SizeModel):
        return {}
    if isinstance(scenario.model, ConfigModel):
        return scenario.model.config
    return dict(load_catalog().model_config(scenario.model))


def _experts(answer: Estimate) -> Iterator[Lever]:
    """The same number of weights as one dense model."""
    arch: Architecture = answer.architecture
    if not arch.is_moe:
        yield Lever("experts", "speed", reason="dense")
        return
    values = {"total": arch.parameters / 1e9, "active": arch.active_parameters / 1e9}
    size = round(arch.parameters / 1e9, 1)
    yield Lever("experts", "speed", off={
        "model": {"parameters_b": size}, "precision": answer.precision,
        # The split is the mixture's own.
        **dict.fromkeys((f"hardware.{kind}_parallel" for kind in get_args(Kind)), None),
    }, reason="experts", values=values)  # fmt: skip


CODES: tuple[str, ...] = (
    "checkpointing", "offload_optimizer", "offload_parameters", *SHARDED, "lora", "qlora",
    "optimizer_8bit", "mixed_precision", "tensor_parallel", "pipeline_parallel", "data_parallel",
    "expert_parallel", "weights_8bit", "weights_4bit", "kv_8bit", "chunked_prefill",
    "batching", "prefix_cache", "speculative", "flash_attention", "weights_offload", "pruning",
    "experts",
)  # fmt: skip
