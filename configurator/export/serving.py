"""Code that serves an answered scenario, one engine after another, and makes its checkpoint.

Flags follow vLLM 0.24, SGLang 0.5, llama.cpp of 2026, TensorRT-LLM 1 and transformers 5; checked
against their sources and documentation in December 2026.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from typing import Any

from configurator.catalog import load_catalog
from configurator.engines import NEAREST_GGUF
from configurator.estimate import Estimate
from configurator.export.checkpoints import checkpoint_note, is_native, on_loading, quantizer
from configurator.export.layout import each_copy, layout_of, spread
from configurator.export.shell import (
    DTYPES,
    Artifact,
    command,
    file_stem,
    loader,
    model_reference,
    note,
    script,
)
from configurator.memory import vllm
from configurator.parallelism import HOST_GPUS
from configurator.words import say

CONFIG_FILE = "config.yaml"
GGUF = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "q2_k")
MXFP4_EXPERTS = "mxfp4_moe"
# TensorRT-LLM's ``max_num_tokens`` where none is given.
STEP_TOKENS = 8192
# Every copy on a host has a port of its own.
OWN_PORT = ' \\\n  --port "$((8000 + copy))"'
# Tokens that prompt lookup matches at most, and that llama.cpp's cache shares at least.
LOOKUP_LENGTH, PREFIX_CHUNK = 4, 256


def drafts_itself(answer: Estimate) -> bool:
    """Whether the model brings layers that draft its next tokens."""
    return bool(answer.architecture.mtp_groups)


def _host_gib(answer: Estimate) -> int | None:
    """Whole GiB of each GPU's weights that lie in host memory; None for none."""
    return math.ceil(answer.memory.host_gib) or None


def _host_layers(answer: Estimate, code: str = "layers_on_host") -> int:
    """Layers of each GPU, or experts of so many layers, that lie in host memory."""
    return sum(n.values["layers"] for n in answer.assumptions if n.code == code)


def _gpu_layers(answer: Estimate) -> int | str:
    """llama.cpp's count: the layers on the cards and the head; "all" where none is left out."""
    left_out = _host_layers(answer) * answer.split.pipeline
    return max(0, answer.architecture.num_layers - left_out) + 1 if left_out else "all"


def _served_context(answer: Estimate) -> int:
    inference = answer.scenario.serving
    return inference.max_model_len or inference.context_tokens


def _vllm_sequences(answer: Estimate) -> int | None:
    """Return ``max_num_seqs`` where vLLM's default would let some of the load wait."""
    inference, device = answer.scenario.serving, answer.device
    version = answer.scenario.engine_version
    large = vllm.has_large_defaults(device.memory_bytes, device.a100, version)
    asked = math.ceil(inference.concurrency / answer.split.data)
    if inference.max_num_seqs is None and asked <= vllm.default_sequences(large):
        return None
    return int(vllm.sequences_at_once(inference, large, asked))


def vllm_command(answer: Estimate, language: str = "en") -> str:
    """Return the ``vllm serve`` command."""
    inference, split, layout = answer.scenario.serving, answer.split, layout_of(answer)
    # With ``--data-parallel-size`` experts are spread over all ranks; else it makes plain copies.
    loop = answer.architecture.is_moe and not spread(answer)
    ranks = split.data if spread(answer) else max(1, layout.here)
    asked = answer.scenario.kv_cache_precision
    kv = {"fp8": "fp8", "int8": "int8_per_token_head", "bf16": "bfloat16"}.get(asked)
    draft = None
    if inference.speculative_tokens:
        method: dict[str, Any] = {"method": "mtp"}
        if not drafts_itself(answer):
            method = {"method": "ngram", "prompt_lookup_max": LOOKUP_LENGTH}
        draft = json.dumps(method | {"num_speculative_tokens": inference.speculative_tokens})
    out = checkpoint_note(answer, language)
    if asked in ("q8_0", "q4_0"):
        out += note("code.no_cache_precision", language, engine="vLLM", precision=asked)
        kv = "fp8"
    if layout.span > 1:
        out += note("code.ray", language)
    out += layout.hint(language)
    line = command(
        ["vllm", "serve", model_reference(answer)],
        [
            ("--dtype", DTYPES.get(answer.precision)),
            ("--quantization", on_loading(answer)),
            ("--kv-cache-dtype", kv),
            ("--tensor-parallel-size", split.tensor),
            ("--pipeline-parallel-size", split.pipeline if split.pipeline > 1 else None),
            ("--data-parallel-size", ranks if ranks > 1 and not loop else None),
            ("--data-parallel-backend", "ray" if ranks > 1 and layout.span > 1 else None),
            ("--enable-expert-parallel", split.expert > 1),
            (
                "--distributed-executor-backend",
                "ray" if split.tensor * split.pipeline > HOST_GPUS else None,
            ),
            ("--max-model-len", _served_context(answer)),
            ("--gpu-memory-utilization", inference.gpu_memory_utilization),
            ("--max-num-batched-tokens", inference.max_num_batched_tokens),
            ("--max-num-seqs", _vllm_sequences(answer)),
            ("--cpu-offload-gb", _host_gib(answer)),
            ("--enable-prefix-caching", bool(inference.prefix_cache_share)),
            ("--speculative-config", draft),
        ],
    )
    return out + (each_copy(layout, line + OWN_PORT) if loop and layout.here > 1 else line)


def sglang_command(answer: Estimate, language: str = "en") -> str:
    """Return the SGLang server command."""
    inference, split, layout = answer.scenario.serving, answer.split, layout_of(answer)
    together = spread(answer)
    # One group's limits are for all its ranks together, copies' for each.
    ranks = split.data if together else 1
    copies = split.data if together else max(1, layout.here)
    drafted = inference.speculative_tokens
    own = bool(drafted) and drafts_itself(answer)
    method = on_loading(answer)
    step, running = inference.max_num_batched_tokens, inference.max_num_seqs
    if drafted and running is None:  # else no more than 48 run at once
        running = math.ceil(inference.concurrency / split.data)
    kv, asked = {"fp8": "fp8_e4m3", "bf16": "bf16"}, answer.scenario.kv_cache_precision
    out = checkpoint_note(answer, language)
    if asked in ("int8", "q8_0", "q4_0"):
        out += note("code.no_cache_precision", language, engine="SGLang", precision=asked)
        kv[asked] = "fp8_e4m3"
    out += layout.hint(language)
    if layout.span > 1:
        out += note("code.hosts_of_copy", language, hosts=layout.span)
    if inference.prefix_cache_share:
        out += note("code.shared_prefixes", language)
    line = command(
        ["python", "-m", "sglang.launch_server", "--model-path", model_reference(answer)],
        [
            ("--dtype", DTYPES.get(answer.precision)),
            ("--quantization", method),
            ("--load-format", method if method == "bitsandbytes" else None),
            ("--kv-cache-dtype", kv.get(asked)),
            ("--tp-size", split.tensor * ranks),
            ("--pp-size", split.pipeline if split.pipeline > 1 else None),
            ("--dp-size", copies if copies > 1 else None),
            ("--enable-dp-attention", together),
            ("--ep-size", split.expert if split.expert > 1 else None),
            ("--context-length", _served_context(answer)),
            ("--mem-fraction-static", inference.gpu_memory_utilization),
            ("--chunked-prefill-size", step and step * ranks),
            ("--max-running-requests", running and running * ranks),
            ("--cpu-offload-gb", _host_gib(answer)),
            ("--speculative-algorithm", ("EAGLE" if own else "NGRAM") if drafted else None),
            ("--speculative-num-steps", drafted if own else None),
            ("--speculative-eagle-topk", 1 if own else None),
            ("--speculative-num-draft-tokens", drafted + 1 if drafted else None),
            ("--nnodes", layout.span if layout.span > 1 else None),
        ],
    )
    if layout.span > 1:
        line += ' \\\n  --node-rank "$NODE_RANK" \\\n  --dist-init-addr "$MASTER_ADDR:5000"'
    return out + line


def tensorrt_llm_config(answer: Estimate) -> dict[str, Any]:
    """Return what ``trtllm-serve`` takes from a file only; empty where defaults do."""
    inference, out = answer.scenario.serving, dict[str, Any]()
    if spread(answer):
        out["enable_attention_dp"] = True
    cache: dict[str, Any] = {}
    if answer.scenario.kv_cache_precision == "fp8":
        cache["dtype"] = "fp8"
    if inference.prefix_cache_share:
        cache["enable_block_reuse"] = True
    if cache:  # replaces the whole group, the command line's share too
        if inference.gpu_memory_utilization:
            cache["free_gpu_memory_fraction"] = inference.gpu_memory_utilization
        out["kv_cache_config"] = cache
    step = inference.max_num_batched_tokens
    if step or inference.input_tokens > STEP_TOKENS:  # else longer prompts are refused
        out["enable_chunked_prefill"] = True
    if inference.speculative_tokens and drafts_itself(answer):
        out["speculative_config"] = {
            "decoding_type": "MTP", "num_nextn_predict_layers": inference.speculative_tokens,
        }  # fmt: skip
    elif inference.speculative_tokens:
        out["speculative_config"] = {
            "decoding_type": "NGram", "max_draft_len": inference.speculative_tokens,
            "max_matching_ngram_size": LOOKUP_LENGTH,
        }  # fmt: skip
    return out


def tensorrt_llm_command(answer: Estimate, language: str = "en") -> str:
    """Return the ``trtllm-serve`` command, once for each copy of the model."""
    inference, split, layout = answer.scenario.serving, answer.split, layout_of(answer)
    start = ["trtllm-serve", model_reference(answer)]
    out = checkpoint_note(answer, language) + layout.hint(language)
    if answer.scenario.kv_cache_precision in ("int8", "q8_0", "q4_0"):
        out += note("code.cache_16_bit", language)
    if layout.span > 1:
        out += note("code.hosts_file", language)
        each = -(-layout.cards // layout.span)
        start = ["mpirun", "-np", str(layout.cards), "-N", str(each), "--hostfile", "hosts.txt",
                 "trtllm-llmapi-launch", *start]  # fmt: skip
    line = command(
        start,
        [
            ("--tp_size", split.tensor * split.data if spread(answer) else split.tensor),
            ("--pp_size", split.pipeline if split.pipeline > 1 else None),
            ("--ep_size", split.expert if split.expert > 1 else None),
            ("--max_seq_len", _served_context(answer)),
            ("--max_batch_size", inference.max_num_seqs),
            ("--max_num_tokens", inference.max_num_batched_tokens),
            ("--kv_cache_free_gpu_memory_fraction", inference.gpu_memory_utilization),
            ("--config", CONFIG_FILE if tensorrt_llm_config(answer) else None),
        ],
    )
    if layout.here > 1:
        out += note("code.own_ports", language)
        line = each_copy(layout, line + OWN_PORT)
    return out + line


def llama_cpp_command(answer: Estimate, language: str = "en") -> str:
    """Return the commands that make the GGUF file and serve it with ``llama-server``."""
    scenario, split, layout = answer.scenario, answer.split, layout_of(answer)
    drafts = scenario.serving.speculative_tokens
    own = bool(drafts) and drafts_itself(answer)
    inference, model, stem = scenario.serving, model_reference(answer), file_stem(answer)
    kind = answer.precision if answer.precision in GGUF else DTYPES.get(answer.precision, "")
    lines = []
    if answer.precision == "mxfp4" and answer.architecture.is_moe:
        # A checkpoint in MXFP4 is converted as it is, another one's experts are quantised.
        kind = "bfloat16" if is_native(answer) else MXFP4_EXPERTS
    elif not kind:
        kind = NEAREST_GGUF.get(answer.precision, "q8_0")
        said = note("code.nearest_gguf", language, precision=answer.precision, nearest=kind)
        lines.append(said.rstrip())
    outtype = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}.get(kind, "bf16")
    full = f"{stem}-{outtype}.gguf"
    wanted = -(-inference.concurrency // split.data)
    slots = min(wanted, inference.max_num_seqs or wanted)
    local = model.startswith("./")
    folder = model if local else stem
    if not local:
        lines.append(shlex.join(["hf", "download", model, "--local-dir", folder]))
    lines.append(
        shlex.join(["python", "convert_hf_to_gguf.py", folder, "--outtype", outtype,
                    "--outfile", full])
    )  # fmt: skip
    served = full
    if kind in (*GGUF, MXFP4_EXPERTS):
        served = f"{stem}-{kind}.gguf"
        lines.append(shlex.join(["llama-quantize", full, served, kind.upper()]))
    cache = {"q8_0": "q8_0", "q4_0": "q4_0", "fp16": "f16", "bf16": "bf16", "fp32": "f32",
             "fp8": "q8_0", "int8": "q8_0"}.get(scenario.kv_cache_precision)  # fmt: skip
    ready = layout.hint(language)
    if layout.here > 1:
        ready += note("code.own_ports", language)
    server = command(
        ["llama-server", "--model", served],
        [
            ("--n-gpu-layers", _gpu_layers(answer)),
            ("--n-cpu-moe", _host_layers(answer, "experts_on_host") * split.pipeline or None),
            ("--split-mode", "layer" if split.pipeline > 1 else "none"),
            ("--ctx-size", _served_context(answer) * slots),
            ("--parallel", slots),
            ("--batch-size", inference.max_num_batched_tokens),
            ("--ubatch-size", inference.max_num_batched_tokens),
            ("--flash-attn", "on"),
            ("--cache-type-k", cache),
            ("--cache-type-v", cache),
            ("--cache-reuse", PREFIX_CHUNK if inference.prefix_cache_share else None),
            ("--spec-type", ("draft-mtp" if own else "ngram-simple") if drafts else None),
            ("--spec-draft-n-max", drafts if own else None),
            ("--spec-ngram-simple-size-m", drafts if drafts and not own else None),
        ],
    )
    lines.append(ready + each_copy(layout, server + OWN_PORT * (layout.here > 1)))
    return "\n".join(lines)


def _has_cuda(answer: Estimate) -> bool:
    """Whether PyTorch calls the card "cuda", as it does AMD's."""
    hardware = answer.scenario.hardware
    if hardware is None or not isinstance(hardware.gpu, str):
        return True
    return load_catalog().gpu(hardware.gpu).vendor in ("NVIDIA", "AMD")


def transformers_script(answer: Estimate, language: str = "en") -> str:
    """Return a Python script that loads the model with transformers and generates."""
    inference, model = answer.scenario.serving, loader(answer)
    prompts = -(-inference.concurrency // answer.split.data)
    drafts = ""
    if inference.speculative_tokens and prompts == 1:  # one prompt at a time only
        drafts = f"        prompt_lookup_num_tokens={inference.speculative_tokens},\n"
    imports, load, hint = [model, "AutoTokenizer"], "", ""
    if method := on_loading(answer):
        made = "FineGrainedFP8Config" if answer.precision == "fp8" else "BitsAndBytesConfig"
        how = {"int8": "load_in_8bit=True"}.get(answer.precision, "")
        if method == "bitsandbytes" and not how:
            how = (
                '\n        load_in_4bit=True, bnb_4bit_quant_type="nf4",\n'
                "        bnb_4bit_compute_dtype=torch.bfloat16,\n    "
            )
        imports.append(made)
        needs = "kernels" if answer.precision == "fp8" else "bitsandbytes"
        hint = note("code.package", language, package=needs)
        load = f"    quantization_config={made}({how}),\n"
    dtype = DTYPES.get(answer.precision, "bfloat16")
    whole = answer.split.pipeline == 1 and not _host_layers(answer) and _has_cuda(answer)
    place = "cuda" if whole else "auto"
    return (
        f'"""{say("code.generate", language)}"""\n\n'
        f"{checkpoint_note(answer, language)}{hint}"
        "import torch\n"
        f"from transformers import {', '.join(sorted(imports))}\n\n"
        f"MODEL = {json.dumps(model_reference(answer))}\n\n"
        'tokenizer = AutoTokenizer.from_pretrained(MODEL, padding_side="left")\n'
        "if tokenizer.pad_token is None:\n"
        "    tokenizer.pad_token = tokenizer.eos_token\n"
        f"model = {model}.from_pretrained(\n"
        "    MODEL,\n"
        f"    dtype=torch.{dtype},\n"
        f"    device_map={json.dumps(place)},\n"
        f"{load}"
        ")\n"
        f"prompts = [{json.dumps(say('code.prompt', language), ensure_ascii=False)}] * {prompts}\n"
        "inputs = tokenizer(\n"
        f'    prompts, return_tensors="pt", padding=True, truncation=True, '
        f"max_length={max(1, inference.input_tokens)},\n"
        ").to(model.device)\n"
        "with torch.inference_mode():\n"
        "    output = model.generate(\n"
        f"        **inputs, max_new_tokens={max(1, inference.output_tokens)},\n"
        f"{drafts}"
        "    )\n"
        "print(tokenizer.batch_decode(output, skip_special_tokens=True)[0])\n"
    )


def serving_files(answer: Estimate, language: str = "en") -> tuple[Artifact, ...]:
    """Return the files of a deployment, the one to start with first."""
    scenario = answer.scenario
    if scenario.engine == "transformers":
        one = Artifact("generate.py", "python", transformers_script(answer, language))
        layout = layout_of(answer)
        if layout.copies == 1:
            return (one,)
        text = layout.hint(language) + each_copy(layout, "python generate.py")
        return Artifact("generate.sh", "bash", script(text)), one
    commands: dict[str, Callable[[Estimate, str], str]] = {
        "vllm": vllm_command, "sglang": sglang_command, "llama_cpp": llama_cpp_command,
        "tensorrt_llm": tensorrt_llm_command,
    }  # fmt: skip
    out = [Artifact("serve.sh", "bash", script(commands[scenario.engine](answer, language)))]
    if scenario.engine == "tensorrt_llm" and (config := tensorrt_llm_config(answer)):
        # JSON is YAML too.
        out.append(Artifact(CONFIG_FILE, "yaml", json.dumps(config, indent=2) + "\n"))
    if checkpoint_note(answer):
        out += quantizer(answer, answer.precision, language)
    return tuple(out)
