"""Processes on a GPU: owner, command line, and the scenario that the command line states.

Reads ``/proc`` only (best effort: in a container, or for another person's process, a value may be
``None``). Nothing here needs a GPU library.
"""

from __future__ import annotations

import functools
import math
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROC = Path("/proc")
ANCESTORS_ASKED = 4  # vLLM: worker → engine core → API server; one more for a wrapper
METRICS_TIMEOUT_S = 0.5
METRICS_LIMIT_BYTES = 4 << 20
HIDDEN = "•••"

_SECRET_FLAG = re.compile(r"(?i)^-*[\w.-]*(api[-_]?key|token|password|passwd|secret|credential)$")
_SECRET_TEXT = re.compile(r"(hf_[A-Za-z0-9]{16,}|sk-[\w-]{16,}|(?<=://)[^/@\s]+:[^/@\s]+(?=@))")

Scenario = dict[str, Any]
Flags = Mapping[str, str]


@dataclass(frozen=True)
class GpuProcess:
    """One process that holds memory on a GPU.

    Attributes:
        pid: Process id as the driver reports it.
        memory_bytes: Device memory it holds, or ``None`` where the driver does not say.
        owner: User name (or the number, when it has no name).
        command: Command line, secrets replaced by dots.
        scenario: What `propose_scenario` reads in it or in the nearest parent that states one.
        port: The port that a serving process listens on.
    """

    pid: int
    memory_bytes: int | None = None
    owner: str | None = None
    command: tuple[str, ...] | None = None
    scenario: Scenario | None = None
    port: int | None = None


def describe(pid: int, memory_bytes: int | None, proc: Path = PROC) -> GpuProcess:
    """Return what ``/proc`` says of ``pid``; cached until the process ends."""
    stat = _stat(pid, proc)
    if stat is None:
        return GpuProcess(pid, memory_bytes)
    owner, command, scenario, port = _describe(pid, stat[1], proc)
    return GpuProcess(pid, memory_bytes, owner, command, scenario, port)


@functools.lru_cache(maxsize=1024)
def _describe(
    pid: int, start_ticks: str, proc: Path
) -> tuple[str | None, tuple[str, ...] | None, Scenario | None, int | None]:
    """``start_ticks`` is in the key so that a reused pid is not taken for the old process."""
    own = _command(pid, proc)
    argv, current = own, pid
    for _ in range(ANCESTORS_ASKED):
        scenario = propose_scenario(list(argv or ()))
        if scenario is not None:
            return _owner(pid, proc), redact(own), scenario, serving_port(list(argv or ()))
        stat = _stat(current, proc)
        if stat is None or stat[0] <= 1:
            break
        current = stat[0]
        argv = _command(current, proc)
    return _owner(pid, proc), redact(own), None, None


def _stat(pid: int, proc: Path) -> tuple[int, str] | None:
    """Return (parent pid, start time in ticks)."""
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
        fields = text.rpartition(")")[2].split()  # the name before it may hold anything
        return int(fields[1]), fields[19]
    except (OSError, IndexError, ValueError):
        return None


def _command(pid: int, proc: Path) -> tuple[str, ...] | None:
    try:
        raw = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return None
    return tuple(part.decode(errors="replace") for part in raw.rstrip(b"\0").split(b"\0")) or None


def _owner(pid: int, proc: Path) -> str | None:
    try:
        uid = (proc / str(pid)).stat().st_uid
    except OSError:
        return None
    try:
        import pwd  # not on Windows

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)


def redact(argv: Iterable[str] | None) -> tuple[str, ...] | None:
    """Replace keys, tokens and passwords in a command line by dots."""
    if argv is None:
        return None
    shown: list[str] = []
    hiding = False
    for part in argv:
        name, equals, _ = part.partition("=")
        if hiding and not part.startswith("-"):
            shown.append(HIDDEN)
            continue
        secret = _SECRET_FLAG.match(name) is not None
        hiding = secret and not equals and part.startswith("-")
        shown.append(f"{name}={HIDDEN}" if secret and equals else _SECRET_TEXT.sub(HIDDEN, part))
    return tuple(shown)


# --- from a command line to a scenario -----------------------------------------------------------

_KV_CACHE = {
    "fp8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "bfloat16": "bf16", "bf16": "bf16",
    "float16": "fp16", "half": "fp16", "f16": "fp16", "float32": "fp32", "f32": "fp32",
    "int8": "int8", "q8_0": "q8_0", "q4_0": "q4_0",
}  # fmt: skip
_DTYPE = {
    "half": "fp16", "float16": "fp16", "bfloat16": "bf16", "float": "fp32", "float32": "fp32",
}  # fmt: skip
# gptq, compressed-tensors, modelopt, gguf…: only the model's config says how many bits -> "auto"
_QUANTIZATION = {
    "fp8": "fp8", "w8a8_fp8": "fp8", "awq": "int4", "awq_marlin": "int4", "bitsandbytes": "nf4",
    "mxfp4": "mxfp4", "modelopt_fp4": "nvfp4", "nvfp4": "nvfp4", "w8a8_int8": "int8",
    "experts_int8": "int8",
}  # fmt: skip
_GGUF = re.compile(r"(?i)[-.:_](q8_0|q6_k|q5_k_m|q4_k_m|q4_0|q3_k_m|q2_k|bf16|f16|f32)(?=$|[-.])")
_GGUF_FLOATS = {"bf16": "bf16", "f16": "fp16", "f32": "fp32"}
_QUANTIZED_NAME = re.compile(r"(?i)awq|gptq|fp8|fp4|int[48]|w[48]a|4bit|8bit|gguf|bnb")
_OPTIMIZERS = {
    "adamw_torch": "adamw", "adamw_torch_fused": "adamw", "adamw_hf": "adamw", "adamw": "adamw",
    "adam": "adamw", "adamw_8bit": "adamw_8bit", "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit", "adafactor": "adafactor", "sgd": "sgd", "muon": "muon",
}  # fmt: skip
_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


def _count(text: str) -> int | None:
    """Read a positive integer; as in vLLM ``32k`` is 32 000 and ``32K`` is 32 768."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgKMG]?)", text)
    number = int(float(match[1]) * _UNITS.get(match[2], 1)) if match else 0
    return number if number > 0 else None


def _share(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number <= 1 else None


def _name(table: Mapping[str, str]) -> Callable[[str], str | None]:
    return lambda text: table.get(text.lower())


_SPLITS: dict[str, tuple[tuple[str, ...], Callable[[str], Any]]] = {
    "hardware.tensor_parallel": (("tensor-parallel-size", "tp", "tp-size"), _count),
    "hardware.pipeline_parallel": (("pipeline-parallel-size", "pp", "pp-size"), _count),
    "hardware.data_parallel": (("data-parallel-size", "dp", "dp-size"), _count),
}
# path in the scenario -> the flags that state it (any of them) and how to read the value
_TABLES: dict[str, dict[str, tuple[tuple[str, ...], Callable[[str], Any]]]] = {
    "vllm": {
        "model": (("model",), str),
        "kv_cache_precision": (("kv-cache-dtype",), _name(_KV_CACHE)),
        "inference.max_model_len": (("max-model-len",), _count),
        "inference.gpu_memory_utilization": (("gpu-memory-utilization",), _share),
        "inference.max_num_batched_tokens": (("max-num-batched-tokens",), _count),
        "inference.max_num_seqs": (("max-num-seqs",), _count),
        **_SPLITS,
    },
    # --mem-fraction-static is a share for weights and cache only, so it is not vLLM's figure
    "sglang": {
        "model": (("model-path", "model"), str),
        "kv_cache_precision": (("kv-cache-dtype",), _name(_KV_CACHE)),
        "inference.max_model_len": (("context-length",), _count),
        "inference.max_num_batched_tokens": (("chunked-prefill-size",), _count),
        "inference.max_num_seqs": (("max-running-requests",), _count),
        "hardware.expert_parallel": (("expert-parallel-size", "ep-size", "ep"), _count),
        **_SPLITS,
    },
    "tensorrt_llm": {
        "model": (("model",), str),
        "kv_cache_precision": (("kv-cache-dtype",), _name(_KV_CACHE)),
        "inference.max_model_len": (("max-seq-len",), _count),
        "inference.max_num_batched_tokens": (("max-num-tokens",), _count),
        "inference.max_num_seqs": (("max-batch-size",), _count),
        "hardware.expert_parallel": (("ep-size", "ep"), _count),
        **_SPLITS,
    },
    "llama_cpp": {
        "model": (("hf-repo", "hfr", "hf", "model", "m"), str),
        "kv_cache_precision": (("cache-type-k", "ctk", "kv-cache-type"), _name(_KV_CACHE)),
        "inference.max_model_len": (("ctx-size", "c"), _count),
        "inference.concurrency": (("parallel", "np"), _count),
    },
    "training": {
        "model": (("model-name-or-path", "model-name", "base-model", "model-id"), str),
        "training.micro_batch_size": (("per-device-train-batch-size", "micro-batch-size"), _count),
        "training.gradient_accumulation": (("gradient-accumulation-steps",), _count),
        "training.sequence_length": (
            ("max-seq-length", "max-length", "model-max-length", "cutoff-len", "seq-length"),
            _count,
        ),
        "training.optimizer": (("optim", "optimizer"), _name(_OPTIMIZERS)),
        "training.lora_rank": (("lora-r", "lora-rank"), _count),
        "hardware.tensor_parallel": (("tensor-model-parallel-size",), _count),
        "hardware.pipeline_parallel": (("pipeline-model-parallel-size",), _count),
        "hardware.expert_parallel": (("expert-model-parallel-size",), _count),
    },
}
_PORTS = {"vllm": 8000, "sglang": 30000, "tensorrt_llm": 8000, "llama_cpp": 8080}


def propose_scenario(argv: list[str]) -> Scenario | None:
    """Read a partial scenario (as the contract names it) in a serving or training command line.

    Knows vLLM, SGLang, TensorRT-LLM, llama.cpp's server, Ollama's runner, and training under
    ``torchrun``, ``accelerate launch``, ``deepspeed``, ``trl``. Only what is stated is returned: a
    field that the command line leaves to a default is absent. ``model`` is what was typed, which
    may be a path or a GGUF name; the catalog decides whether it knows it.

    Args:
        argv: The command line, one argument a string.

    Returns:
        A partial scenario, or ``None`` when this is not a command line that says what it runs.
    """
    found = _recognise(argv)
    if found is None:
        return None
    engine, rest = found
    flags = _flags(rest)
    flat: dict[str, Any] = {"task": "inference", "engine": engine}
    for path, (names, read) in _TABLES[engine].items():
        texts = [flags[name] for name in names if flags.get(name)]
        value = read(texts[0]) if texts else None
        if value is not None:
            flat[path] = value
    if engine == "training":
        _finish_training(flat, flags, argv)
    else:
        if engine in ("vllm", "tensorrt_llm") and rest and not rest[0].startswith("-"):
            flat.setdefault("model", rest[0])
        _finish_serving(flat, flags)
    return _nest(flat)


def serving_port(argv: list[str]) -> int | None:
    """Return the port that a serving command line listens on, its engine's default if unsaid."""
    found = _recognise(argv)
    if found is None or found[0] not in _PORTS:
        return None
    return _count(_flags(found[1]).get("port", "")) or _PORTS[found[0]]


def _recognise(argv: list[str]) -> tuple[str, list[str]] | None:
    """Return the engine (or ``training``) and the arguments after its entry point."""
    names = [re.split(r"[/\\]", part)[-1].removesuffix(".exe") for part in argv[:8]]
    for at, name in enumerate(names):
        after = names[at + 1] if at + 1 < len(names) else ""
        engine = {
            ("vllm", "serve"): "vllm", ("sglang", "serve"): "sglang",
            ("ollama", "runner"): "llama_cpp", ("ollama", "serve"): "llama_cpp",
            ("accelerate", "launch"): "training", ("-m", "sglang.launch_server"): "sglang",
            ("-m", "torch.distributed.run"): "training",
            ("-m", "torch.distributed.launch"): "training",
        }.get((name, after))  # fmt: skip
        if engine is None and name == "-m" and after.startswith("vllm.entrypoints."):
            engine = "vllm"
        if engine is not None:
            return engine, argv[at + 2 :]
        engine = {
            "llama-server": "llama_cpp", "ollama_llama_server": "llama_cpp",
            "trtllm-serve": "tensorrt_llm", "torchrun": "training", "deepspeed": "training",
            "trl": "training",
        }.get(name)  # fmt: skip
        if engine is not None:
            return engine, argv[at + 1 :]
    return None


def _flags(args: list[str]) -> dict[str, str]:
    """Map each flag, without dashes and with ``_`` as ``-``, to its value ("" for a switch)."""
    flags: dict[str, str] = {}
    for at, part in enumerate(args):
        if not part.startswith("-"):
            continue
        name, equals, value = part.lstrip("-").partition("=")
        following = args[at + 1] if at + 1 < len(args) else "-"
        flags[name.replace("_", "-")] = (
            value if equals else "" if following.startswith("-") else following
        )
    return flags


def _on(flags: Flags, *names: str) -> bool:
    return any(flags.get(name, "false").lower() not in ("false", "0", "no") for name in names)


def _finish_serving(flat: dict[str, Any], flags: Flags) -> None:
    engine, model = flat["engine"], str(flat.get("model", ""))
    if engine == "llama_cpp":
        _finish_llama(flat, flags, model)
        return
    quantization = flags.get("quantization") or flags.get("q", "")
    if quantization:
        flat["precision"] = _QUANTIZATION.get(quantization.lower().replace("-", "_"), "auto")
    elif flags.get("dtype") in _DTYPE and not _QUANTIZED_NAME.search(model):
        flat["precision"] = _DTYPE[flags["dtype"]]
    gpus = [flat.get(f"hardware.{kind}_parallel", 1) for kind in ("tensor", "pipeline", "data")]
    if engine == "sglang" and _on(flags, "enable-dp-attention"):
        gpus[2] = 1  # there the data-parallel ranks are the tensor-parallel ones
    flat["hardware.gpu_count"] = math.prod(gpus)
    if _on(flags, "enable-expert-parallel"):
        flat["hardware.expert_parallel"] = gpus[0] * gpus[2]
    if flags.get("cpu-offload-gb", "0").strip("0.") != "":
        flat["hardware.allow_cpu_offload"] = True


def _finish_llama(flat: dict[str, Any], flags: Flags, model: str) -> None:
    stem = re.sub(r"(-\d+-of-\d+)?\.gguf$", "", model)
    quant = _GGUF.search(stem)
    if quant:
        kind = quant[1].lower()
        flat["precision"] = _GGUF_FLOATS.get(kind, kind)
        stem = stem[: quant.start()]
    if re.search(r"[/\\]sha256-", model):
        flat.pop("model")  # an Ollama blob: its name is a checksum
    elif model.endswith(".gguf"):
        flat["model"] = re.split(r"[/\\]", stem)[-1]
    elif model:
        flat["model"] = stem.partition(":")[0]
    slots = flat.get("inference.concurrency")
    if slots and "inference.max_model_len" in flat and not _on(flags, "kv-unified", "kvu"):
        flat["inference.max_model_len"] //= slots  # --ctx-size is shared out over the slots
    if _on(flags, "cpu-moe", "n-cpu-moe"):
        flat["hardware.allow_cpu_offload"] = True


def _finish_training(flat: dict[str, Any], flags: Flags, argv: list[str]) -> None:
    words = " ".join(argv).lower()
    per_node = flags.get("nproc-per-node") or flags.get("num-gpus", "")
    nodes = flags.get("nnodes") or flags.get("num-nodes") or "1"
    gpus = _count(flags.get("num-processes", "")) or (_count(per_node) or 0) * (_count(nodes) or 0)
    if gpus:
        flat["hardware.gpu_count"] = gpus
    deepspeed = re.search(r"(^|[ /])deepspeed( |$)", words) or _on(flags, "use-deepspeed")
    fsdp = _on(flags, "fsdp", "use-fsdp")
    megatron = "megatron" in words or "pretrain_gpt" in words
    flat["engine"] = (
        "megatron" if megatron
        else "deepspeed" if deepspeed or _on(flags, "deepspeed")
        else "fsdp" if fsdp
        else "transformers"
    )  # fmt: skip
    flat["task"] = "fine_tuning" if "model" in flat else "training"
    stage = flags.get("zero-stage") or "".join(
        re.findall(r"z(?:ero)?[-_]?(?:stage)?[-_]?([123])", flags.get("deepspeed", "").lower())[:1]
    )
    if stage in ("1", "2", "3"):
        flat["training.sharding"] = f"zero{stage}"
    elif fsdp:
        flat["training.sharding"] = "fsdp"
    if _on(flags, "use-peft", "use-lora", "lora-r", "lora-rank"):
        flat["training.method"] = "qlora" if _on(flags, "load-in-4bit") else "lora"
    if _on(flags, "gradient-checkpointing"):
        flat["training.gradient_checkpointing"] = True
    if _on(flags, "bf16"):
        pure = (flags.get("torch-dtype") or flags.get("dtype")) == "bfloat16"
        flat["training.mixed_precision"] = "pure_bf16" if pure else "amp_bf16"
    elif _on(flags, "fp16"):
        flat["training.mixed_precision"] = "amp_fp16"


def _nest(flat: Mapping[str, Any]) -> Scenario:
    nested: Scenario = {}
    for path, value in flat.items():
        group, dot, leaf = path.rpartition(".")
        (nested.setdefault(group, {}) if dot else nested)[leaf] = value
    return nested


# --- a running vLLM's own figures ----------------------------------------------------------------

# figure -> (metric names, newest first; how several engines of one server add up)
_METRICS: dict[str, tuple[tuple[str, ...], Callable[[list[float]], float]]] = {
    "requests_running": (("vllm:num_requests_running",), sum),
    "requests_waiting": (("vllm:num_requests_waiting",), sum),
    "kv_cache_usage": (("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"), max),
    "prompt_tokens_total": (("vllm:prompt_tokens_total",), sum),
    "generation_tokens_total": (("vllm:generation_tokens_total",), sum),
}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Never leave loopback."""


def read_vllm_metrics(port: int) -> dict[str, float | None]:
    """Read a vLLM server's Prometheus figures on this machine (127.0.0.1 only, 0.5 s).

    Args:
        port: TCP port of the server, as `serving_port` returns it.

    Returns:
        ``requests_running``, ``requests_waiting``, ``kv_cache_usage`` (0 to 1, of the fullest
        engine), ``prompt_tokens_total``, ``generation_tokens_total``; ``None`` for one it does not
        report. Empty when nothing answers.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    deadline = time.monotonic() + METRICS_TIMEOUT_S
    body = b""
    try:
        url = f"http://127.0.0.1:{int(port)}/metrics"
        with opener.open(url, timeout=METRICS_TIMEOUT_S) as response:
            while len(body) < METRICS_LIMIT_BYTES and time.monotonic() < deadline:
                chunk = response.read1(1 << 16)
                if not chunk:
                    break
                body += chunk
    except (OSError, ValueError):
        return {}
    return parse_vllm_metrics(body.decode(errors="replace"))


def parse_vllm_metrics(text: str) -> dict[str, float | None]:
    """Pick `read_vllm_metrics`' figures out of the Prometheus text format."""
    values: dict[str, list[float]] = {}
    for line in text.splitlines():
        match = re.match(r"(vllm:\w+)(?:\{.*\})?\s+(\S+)", line)
        if match:
            try:
                number = float(match[2])
            except ValueError:
                continue
            if math.isfinite(number):
                values.setdefault(match[1], []).append(number)
    figures: dict[str, float | None] = {}
    for figure, (names, combine) in _METRICS.items():
        found = next((values[name] for name in names if name in values), None)
        figures[figure] = combine(found) if found else None
    return figures


def system_memory() -> tuple[int | None, int | None]:
    """Return this machine's (total, available) memory [bytes]; ``None`` where it does not say."""
    try:
        lines = (PROC / "meminfo").read_text().splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if "kB" in line}
        return kib["MemTotal"] * 1024, kib.get("MemAvailable", 0) * 1024 or None
    except (OSError, KeyError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
    except (AttributeError, OSError, ValueError):
        return None, None
