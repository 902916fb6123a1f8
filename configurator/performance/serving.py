"""Serving speed: closed-loop continuous batching on top of one step's time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from configurator.architecture import Architecture
from configurator.device import Device
from configurator.memory import sglang, vllm
from configurator.performance.coefficients import (
    FAMILIES,
    coefficients,
    interval,
    precision_class,
)
from configurator.performance.links import host_link, peer_link
from configurator.performance.steps import Coefficients, Plan, decode_step, prefill, total
from configurator.performance.workload import Workload, workload
from configurator.scenario import Inference

# Prompt tokens a step by default (TensorRT-LLM's max_num_tokens; llama.cpp's n_ubatch; transformers
# takes the whole prompt; vLLM's and SGLang's follow the card's memory).
CHUNK_TOKENS = {"tensorrt_llm": 8192.0, "llama_cpp": 512.0, "transformers": 1e9}
# Share of a running request's output that it holds on average when admission looks at what is held
# now; TensorRT-LLM reserves all of it (GUARANTEED_NO_EVICT).
HELD_OUTPUT = {"tensorrt_llm": 1.0}

# Where the load drafts tokens and does not say how many are accepted: DeepSeek-V3 reports 85 to
# 90 % for its second token (arXiv 2412.19437, section 5.4.3); further tokens and other drafts less.
TYPICAL_ACCEPTANCE = 0.7


@dataclass(frozen=True)
class Speculative:
    """Speculative decoding or multi-token prediction.

    Attributes:
        draft_tokens: Tokens proposed a step.
        acceptance: Chance that a proposed token is accepted, given that those before it were.
        draft_cost: Cost of proposing one token as a share of a decode step.
    """

    draft_tokens: int
    acceptance: float
    draft_cost: float = 0.05

    @property
    def tokens_per_step(self) -> float:
        """Expected tokens a step: ``(1 − a^(k+1)) / (1 − a)`` (arXiv 2211.17192, equation 1)."""
        if self.acceptance >= 1.0:
            return self.draft_tokens + 1.0
        a = self.acceptance
        return float((1.0 - a ** (self.draft_tokens + 1)) / (1.0 - a))


@dataclass(frozen=True)
class ServingSpeed:
    """Seconds and tokens a second; ``_low`` and ``_high`` hold 90 % of measured cases.

    ``detail`` names the terms in seconds: ``decode.*`` of one decode step, ``prefill.*`` of one
    prompt, ``interference`` (other prompts' share in a decode step), ``bunching``, ``queue``.
    """

    ttft_s: Any
    ttft_s_low: Any
    ttft_s_high: Any
    tpot_s: Any
    tpot_s_low: Any
    tpot_s_high: Any
    output_tokens_per_s: Any
    output_tokens_per_s_low: Any
    output_tokens_per_s_high: Any
    requests_per_s: Any
    requests_per_s_low: Any
    requests_per_s_high: Any
    prefill_tokens_per_s: Any
    prefill_tokens_per_s_low: Any
    prefill_tokens_per_s_high: Any
    decode_tokens_per_s: Any
    decode_tokens_per_s_low: Any
    decode_tokens_per_s_high: Any
    running: Any
    bound_by: Any
    detail: Mapping[str, Any]


def compute_rates(precision: str, method: str | None, engine: str) -> tuple[str, ...]:
    """Return the units that do a precision's products, best first; a card uses the first it has.

    Weight-only schemes (AWQ, GPTQ, NF4, MXFP4 before Blackwell) multiply in 16 bit; llama.cpp's
    quantised products run on INT8 units (ggml-cuda mmq).
    """
    half = ("bf16", "fp16", "fp32")
    if precision == "fp32":
        return ("fp32",)
    if engine == "llama_cpp" and precision not in ("fp16", "bf16"):
        return ("int8", "fp16", "fp32")
    if engine == "transformers":
        return half
    if precision == "fp8":
        return ("fp8", *half)
    if precision == "nvfp4":
        return ("fp4", *half)
    if precision == "mxfp4":
        return ("fp4", *half)
    if precision == "int8" and method not in ("gptq", "awq"):
        return ("int8", *half)
    return ("fp16", *half) if precision == "fp16" else half


def first_rate(device: Device, names: tuple[str, ...]) -> Any:
    """Return the rate of the first unit that a card has; NaN, and so no speed, without any."""
    rate: Any = np.nan
    for name in names:
        other = device.rates.get(name, np.nan)
        rate = np.where(np.isnan(rate), other, rate)
    return rate


def make_plan(
    arch: Architecture, precision: str, engine: str, inference: Inference, device: Device,
    tensor: Any, pipeline: Any, expert: Any, data: Any, host_share: Any = 0.0,
    host_expert_share: Any = 0.0,
) -> Plan:  # fmt: skip
    """Return cards and split as the formulas need them."""
    quantization = arch.quantization
    own = quantization if quantization and quantization.precision == precision else None
    method = own.method if own else None
    rate = first_rate(device, compute_rates(precision, method, engine))
    wide = first_rate(device, ("bf16", "fp16", "fp32") if precision != "fp32" else ("fp32",))
    expert_rate = rate
    if own and own.expert_precision:
        expert_rate = first_rate(device, compute_rates(own.expert_precision, method, engine))
    domain = np.maximum(np.asarray(device.domain_size), 1)
    tensor_ = np.asarray(tensor, dtype=float)
    group = np.maximum(tensor_, np.asarray(expert, dtype=float))
    fast = np.where((domain > 1) & (group <= domain), 1.0, 0.0)
    # llama.cpp computes the layers that lie in host memory there: they do not cross PCIe.
    host = np.inf if engine == "llama_cpp" else host_link(device)
    chunk: Any = inference.max_num_batched_tokens or CHUNK_TOKENS.get(engine)
    if engine == "sglang":
        chunk = sglang.prefill_tokens(inference, device.memory_bytes)
    elif chunk is None:
        large = vllm.has_large_defaults(device.memory_bytes, device.a100)
        chunk = vllm.batched_tokens(inference, large)
    return Plan(
        tensor_, np.asarray(pipeline, dtype=float), np.asarray(expert, dtype=float),
        np.asarray(data, dtype=float), np.asarray(device.bandwidth_bytes_per_s), rate, wide,
        expert_rate, wide, peer_link(device, group), fast, host, chunk, host_share,
        host_expert_share,
    )  # fmt: skip


def closed_loop(
    model: Workload, plan: Plan, c: Coefficients, concurrency: Any, input_tokens: Any,
    output_tokens: Any, room_tokens: Any, held_output: Any, most_running: Any,
    prefix_share: Any = 0.0, draft: Speculative | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Steady state of ``concurrency`` clients that each send the next request when one ends.

    A decode step of the N running sequences takes D. While one request emits its O tokens, each of
    the other N − 1 is replaced once, and every new prompt holds the step it runs in for P:
    ``TPOT = D + interference·(N − 1)·P/O``. A new prompt waits for its own prefill, the running
    step, and for prompts that arrived with it: ``bunching·P·((N − 1)/2)^bunching_power``. What does
    not fit the cache queues: ``(C − N)/throughput``. Throughput is ``N·O/(N·P + O·D)``, whatever
    the order, and never more than N requests give at that pace: ``N·O/(P + (O − 1)·TPOT)``.

    Args:
        model: Sums of the model.
        plan: Cards and split.
        c: Coefficients.
        concurrency: Requests in flight over the whole deployment.
        input_tokens: Prompt of each request.
        output_tokens: Answer of each request.
        room_tokens: Tokens that one replica's cache holds.
        held_output: Share of the output that admission counts.
        most_running: Sequences that one replica runs at most.
        prefix_share: Share of the prompt found in the prefix cache.
        draft: Speculative decoding.
    """
    each = np.maximum(concurrency / plan.data, 1.0)
    outputs = np.maximum(output_tokens, 1.0)
    need = np.maximum(input_tokens + outputs * held_output, 1.0)
    running = np.maximum(np.minimum(np.minimum(each, room_tokens / need), most_running), 1.0)
    fresh = np.maximum(input_tokens * (1.0 - prefix_share), 1.0)
    cached = np.maximum(input_tokens - fresh, 0.0)
    alone = prefill(model, plan, c, 1.0, fresh, cached)
    alone_s = total(alone)
    together = np.clip(plan.chunk / fresh, 1.0, running)
    shared_s = total(prefill(model, plan, c, together, fresh, cached)) / together
    width = 1.0 if draft is None else draft.draft_tokens + 1.0
    step = decode_step(model, plan, c, running, input_tokens + outputs / 2.0, width)
    step_s = total(step)
    if draft is not None:
        step_s = step_s * (1.0 + draft.draft_cost * draft.draft_tokens) / draft.tokens_per_step
    others = running - 1.0
    interference = c["interference"] * others * shared_s / outputs
    tpot = step_s + interference
    request_s = alone_s + c["request_s"]
    waits = np.where(others > 0, c["step_wait"] * step_s, 0.0)
    bunching = c["bunching"] * shared_s * (others / 2.0) ** c["bunching_power"]
    cycle = c["request_s"] + running * shared_s + (alone_s - shared_s) + outputs * step_s
    queue = np.maximum(each - running, 0.0) / running * cycle
    ttft = request_s + waits + bunching + queue
    # A copy without a request does nothing.
    busy = np.minimum(plan.data, concurrency)
    rate = busy * running / np.maximum(cycle, request_s + (outputs - 1.0) * tpot)
    batch = prefill(model, plan, c, np.maximum(concurrency / plan.data, 1.0), fresh, cached)
    return {
        "ttft_s": ttft, "tpot_s": tpot, "requests_per_s": rate,
        "output_tokens_per_s": rate * output_tokens,
        "prefill_tokens_per_s": busy * each * fresh / (total(batch) + c["batch_s"]),
        "decode_tokens_per_s": busy * running / step_s,
        "running": running * busy, "step": step, "prompt": alone,
        "interference": interference, "bunching": bunching, "queue": queue, "waits": waits,
    }  # fmt: skip


def static_share(requests: Any, output_tokens_per_s: Any, decode_tokens_per_s: Any) -> Any:
    """Throughput of static batches over that of continuous batching, 0 to 1.

    A static batch ends with its longest answer (Orca, OSDI 2022, section 3). Of N answers spread
    evenly from nothing to twice the mean the longest has 2N/(N + 1) times the mean; continuous
    batching spends ``output ÷ decode rate`` of its time on decoding, the rest is the same for both.
    Where all answers are equally long nothing waits and the share is 1.

    Args:
        requests: Requests of one batch, N.
        output_tokens_per_s: With continuous batching.
        decode_tokens_per_s: Of the same batch, decoding alone.
    """
    waiting = (requests - 1.0) / (requests + 1.0)
    return 1.0 / (1.0 + waiting * output_tokens_per_s / decode_tokens_per_s)


QUANTITIES = (
    "ttft_s", "tpot_s", "output_tokens_per_s", "requests_per_s", "prefill_tokens_per_s",
    "decode_tokens_per_s",
)  # fmt: skip
_MEASURED_AS = {"requests_per_s": "output_tokens_per_s"}


def bound_by(step: Mapping[str, Any]) -> Any:
    """Name what a step spends most of its time on; an array of names for many."""
    compute = np.asarray(step["compute"])
    moved = np.asarray(step["weights"] + step["experts"] + step["cache"] + step["host_weights"])
    messages = np.asarray(step["allreduce"] + step["alltoall"] + step["pipeline"])
    overhead = np.asarray(step["launches"] + step.get("step", 0.0))
    names = np.array(["memory_bandwidth", "compute", "communication", "overhead"])
    memory = np.where(compute > 0.5 * moved, 0.0, moved)
    math = np.where(compute > 0.5 * moved, moved, 0.0)
    parts = np.stack(np.broadcast_arrays(memory, math, messages, overhead))
    found = names[np.argmax(parts, axis=0)]
    return str(found) if found.ndim == 0 else found


def serving_speed(
    arch: Architecture, precision: str, kv_precision: str, engine: str, inference: Inference,
    device: Device, tensor: Any = 1, pipeline: Any = 1, expert: Any = 1, data: Any = 1, *,
    kv_capacity_tokens: Any, concurrency: Any = None,
    prefix_cache_share: float | None = None, speculative: Speculative | None = None,
    host_share: Any = 0.0, host_expert_share: Any = 0.0,
) -> ServingSpeed:  # fmt: skip
    """Return how fast a model is served; scalars in, scalars out, arrays in, arrays out.

    Args:
        arch: The model.
        precision: Resolved precision of the weights.
        kv_precision: Resolved precision of the cache.
        engine: ``vllm sglang tensorrt_llm transformers llama_cpp``.
        inference: Concurrency (over the whole deployment) and tokens of a request.
        device: One card, or many as arrays.
        tensor: Tensor-parallel ranks; a number or an array, as the other parts of the split.
        pipeline: Pipeline stages.
        expert: Expert-parallel ranks; more than ``tensor`` spans the replicas.
        data: Replicas.
        kv_capacity_tokens: Tokens that the cache of the whole deployment holds.
        concurrency: Requests at once over the whole deployment, a number or an array; the load's
            own where absent.
        prefix_cache_share: Share of the prompt's tokens found in the prefix cache, 0 to 1; the
            load's own where absent.
        speculative: Speculative decoding; the load's own where absent.
        host_share: Share of the layers' weights that lies in host memory, experts left out, 0 to 1.
        host_expert_share: Share of the experts' weights that lies there.

    Returns:
        Seconds, tokens and requests a second, each with a 90 % interval, and what bounds a step.
    """
    family = FAMILIES[engine]
    quantization = arch.quantization
    method = quantization.method if quantization and quantization.precision == precision else None
    c = coefficients(family, engine, precision_class(precision, method), device)
    model = workload(arch, precision, kv_precision, engine)
    plan = make_plan(
        arch, precision, engine, inference, device, tensor, pipeline, expert, data, host_share,
        host_expert_share,
    )  # fmt: skip
    room = np.asarray(kv_capacity_tokens, dtype=float) / plan.data
    cached = inference.prefix_cache_share if prefix_cache_share is None else prefix_cache_share
    if speculative is None and inference.speculative_tokens:
        accepted = inference.acceptance_rate
        speculative = Speculative(
            inference.speculative_tokens, TYPICAL_ACCEPTANCE if accepted is None else accepted
        )
    users = float(inference.concurrency) if concurrency is None else concurrency
    out = closed_loop(
        model, plan, c, users, float(inference.input_tokens),
        float(inference.output_tokens), room, HELD_OUTPUT.get(engine, 0.5),
        float(inference.max_num_seqs or 1e9), cached or 0.0, speculative,
    )  # fmt: skip
    values: dict[str, Any] = {}
    for name in QUANTITIES:
        low, high = interval(family, engine, _MEASURED_AS.get(name, name), device, arch)
        values[name] = _plain(out[name])
        values[f"{name}_low"] = _plain(out[name] * low)
        values[f"{name}_high"] = _plain(out[name] * high)
    detail = {f"decode.{k}": _plain(v) for k, v in out["step"].items()}
    detail |= {f"prefill.{k}": _plain(v) for k, v in out["prompt"].items()}
    detail |= {k: _plain(out[k]) for k in ("interference", "bunching", "queue", "waits")}
    values["running"] = _plain(out["running"])
    return ServingSpeed(**values, bound_by=bound_by(out["step"]), detail=detail)


def _plain(value: Any) -> Any:
    """Return a number for a zero-dimensional array."""
    value = np.asarray(value)
    return float(value) if value.ndim == 0 else value
