"""Code that runs an answered scenario: serving commands, training scripts and their configs.

Everything is derived from the estimate's scenario and split. Names that a user may have chosen
never reach a shell or a script unquoted. Flags follow vLLM 0.24, SGLang 0.5, llama.cpp of 2026,
TensorRT-LLM 1, transformers 5, PEFT, DeepSpeed 0.17 and Megatron Core. Those of the serving engines
and of transformers were checked against their documentation in November 2026.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from configurator.estimate import Estimate
from configurator.parallelism import HOST_GPUS
from configurator.scenario import ConfigModel, SizeModel

Language = Literal["bash", "python", "json", "yaml"]
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
OPTIMIZERS = {
    "adamw": "adamw_torch", "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit", "adafactor": "adafactor", "sgd": "sgd",
    # transformers' Trainer has no Muon; the script says so.
    "muon": "adamw_torch",
}  # fmt: skip
ZERO_STAGE = {"none": 0, "ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3, "fsdp": 3}
GGUF = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "q2_k")
DATA_FILE = "train.jsonl"


@dataclass(frozen=True)
class Artifact:
    """One generated file: its name, its language and its text."""

    name: str
    language: Language
    text: str


# --------------------------------------------------------------------------- names and lines


def model_reference(answer: Estimate) -> str:
    """Return what loaders take: a Hugging Face id, or a folder for an uploaded or sized model."""
    model = answer.scenario.model
    if isinstance(model, SizeModel):
        return f"./model-{model.parameters_b:g}b"
    name = " ".join(
        (model.name if isinstance(model, ConfigModel) else answer.architecture.name).split()
    )
    # A leading dash would be read as an option whatever the quoting.
    return f"./{name}" if not name or name.startswith("-") else name


def file_stem(answer: Estimate) -> str:
    """Return the model's name as a safe file name."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(model_reference(answer)).name)
    return stem.strip(".-") or "model"


def command(words: Sequence[str], options: Sequence[tuple[str, Any]]) -> str:
    """Return a shell command, one option a line; every word is quoted.

    Args:
        words: Program and what comes first.
        options: Name and value; None leaves an option out, True is a bare flag.
    """
    return _with_options(shlex.join(words), options)


def _with_options(first: str, options: Sequence[tuple[str, Any]]) -> str:
    lines = [first]
    for name, value in options:
        if value is None or value is False:
            continue
        lines.append(name if value is True else f"{name} {shlex.quote(str(value))}")
    return " \\\n  ".join(lines)


def _note(text: str) -> str:
    return f"# {' '.join(text.split())}\n"


def _served_context(answer: Estimate) -> int:
    inference = answer.scenario.serving
    return inference.max_model_len or inference.context_tokens


def _is_native(answer: Estimate) -> bool:
    """Whether the checkpoint itself is stored at the precision asked for."""
    arch = answer.architecture
    own = arch.quantization.precision if arch.quantization else arch.native_precision
    return answer.precision == own


def _checkpoint_note(answer: Estimate) -> str:
    """Say that a quantised checkpoint is needed where the engine cannot quantise on loading."""
    loads = {"vllm": ("fp8", "nf4"), "sglang": ("fp8",)}.get(answer.scenario.engine, ())
    if answer.precision in (*DTYPES, *loads) or _is_native(answer):
        return ""
    return _note(
        f"Needs a checkpoint quantised to {answer.precision}: take a published one or make it "
        f"with quantize.py, and name its folder here."
    )


# --------------------------------------------------------------------------- serving


def vllm_command(answer: Estimate) -> str:
    """Return the ``vllm serve`` command."""
    inference, split = answer.scenario.serving, answer.split
    quantization = None
    if not _is_native(answer):
        quantization = {"fp8": "fp8", "nf4": "bitsandbytes"}.get(answer.precision)
    across = split.tensor * split.pipeline > HOST_GPUS
    kv = {"fp8": "fp8"}.get(answer.scenario.kv_cache_precision)
    out = _checkpoint_note(answer)
    if answer.scenario.kv_cache_precision in ("int8", "q8_0", "q4_0"):
        out += _note(f"vLLM has no {answer.scenario.kv_cache_precision} cache: FP8 is the nearest.")
        kv = "fp8"
    if across:
        out += _note("One copy spans several hosts: start a Ray cluster on all of them first.")
    return out + command(
        ["vllm", "serve", model_reference(answer)],
        [
            ("--dtype", DTYPES.get(answer.precision)),
            ("--quantization", quantization),
            ("--kv-cache-dtype", kv),
            ("--tensor-parallel-size", split.tensor),
            ("--pipeline-parallel-size", split.pipeline if split.pipeline > 1 else None),
            ("--data-parallel-size", split.data if split.data > 1 else None),
            ("--enable-expert-parallel", split.expert > 1),
            ("--distributed-executor-backend", "ray" if across else None),
            ("--max-model-len", _served_context(answer)),
            ("--gpu-memory-utilization", inference.gpu_memory_utilization),
            ("--max-num-batched-tokens", inference.max_num_batched_tokens),
            ("--max-num-seqs", inference.max_num_seqs),
        ],
    )


def sglang_command(answer: Estimate) -> str:
    """Return the SGLang server command."""
    inference, split = answer.scenario.serving, answer.split
    # Experts over more ranks than attention: SGLang's data-parallel attention inside one group.
    spread = split.expert > split.tensor
    tensor = split.tensor * split.data if spread else split.tensor
    online_fp8 = answer.precision == "fp8" and not _is_native(answer)
    return _checkpoint_note(answer) + command(
        ["python", "-m", "sglang.launch_server", "--model-path", model_reference(answer)],
        [
            ("--dtype", DTYPES.get(answer.precision)),
            ("--quantization", "fp8" if online_fp8 else None),
            ("--kv-cache-dtype", {"fp8": "fp8_e4m3"}.get(answer.scenario.kv_cache_precision)),
            ("--tp-size", tensor),
            ("--pp-size", split.pipeline if split.pipeline > 1 else None),
            ("--dp-size", split.data if split.data > 1 else None),
            ("--enable-dp-attention", spread),
            ("--ep-size", split.expert if split.expert > 1 else None),
            ("--context-length", _served_context(answer)),
            ("--mem-fraction-static", inference.gpu_memory_utilization),
            ("--chunked-prefill-size", inference.max_num_batched_tokens),
            ("--max-running-requests", inference.max_num_seqs),
        ],
    )


def tensorrt_llm_command(answer: Estimate) -> str:
    """Return the ``trtllm-serve`` command."""
    inference, split = answer.scenario.serving, answer.split
    return _checkpoint_note(answer) + command(
        ["trtllm-serve", model_reference(answer)],
        [
            ("--tp_size", split.tensor),
            ("--pp_size", split.pipeline if split.pipeline > 1 else None),
            ("--ep_size", split.expert if split.expert > 1 else None),
            ("--max_seq_len", _served_context(answer)),
            ("--max_batch_size", inference.max_num_seqs),
            ("--max_num_tokens", inference.max_num_batched_tokens),
            ("--kv_cache_free_gpu_memory_fraction", inference.gpu_memory_utilization),
        ],
    )


def llama_cpp_command(answer: Estimate) -> str:
    """Return the commands that make the GGUF file and serve it with ``llama-server``."""
    scenario, split = answer.scenario, answer.split
    inference, model, stem = scenario.serving, model_reference(answer), file_stem(answer)
    kind = answer.precision if answer.precision in GGUF else DTYPES.get(answer.precision, "bf16")
    outtype = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}.get(kind, "bf16")
    full = f"{stem}-{outtype}.gguf"
    lines = []
    local = model.startswith("./")
    folder = model if local else stem
    if not local:
        lines.append(shlex.join(["hf", "download", model, "--local-dir", folder]))
    lines.append(
        shlex.join(["python", "convert_hf_to_gguf.py", folder, "--outtype", outtype,
                    "--outfile", full])
    )  # fmt: skip
    served = full
    if kind in GGUF:
        served = f"{stem}-{kind}.gguf"
        lines.append(shlex.join(["llama-quantize", full, served, kind.upper()]))
    cache = {"q8_0": "q8_0", "q4_0": "q4_0", "fp16": "f16", "bf16": "bf16", "fp32": "f32",
             "fp8": "q8_0", "int8": "q8_0"}.get(scenario.kv_cache_precision)  # fmt: skip
    lines.append(
        command(
            ["llama-server", "--model", served],
            [
                ("--n-gpu-layers", "all"),
                ("--split-mode", "layer" if split.gpus > 1 else "none"),
                ("--ctx-size", _served_context(answer) * inference.concurrency),
                ("--parallel", inference.concurrency),
                ("--ubatch-size", inference.max_num_batched_tokens),
                ("--flash-attn", "on"),
                ("--cache-type-k", cache),
                ("--cache-type-v", cache),
            ],
        )
    )
    return "\n".join(lines)


def transformers_script(answer: Estimate) -> str:
    """Return a Python script that loads the model with transformers and generates."""
    inference = answer.scenario.serving
    load = ""
    extra_import = ""
    if answer.precision in ("int8", "nf4", "int4") and not _is_native(answer):
        extra_import = ", BitsAndBytesConfig"
        load = (
            "    quantization_config=BitsAndBytesConfig(load_in_8bit=True),\n"
            if answer.precision == "int8"
            else (
                "    quantization_config=BitsAndBytesConfig(\n"
                '        load_in_4bit=True, bnb_4bit_quant_type="nf4",\n'
                "        bnb_4bit_compute_dtype=torch.bfloat16,\n"
                "    ),\n"
            )
        )
    dtype = DTYPES.get(answer.precision, "bfloat16")
    return (
        '"""Generate with transformers."""\n\n'
        "import torch\n"
        f"from transformers import AutoModelForCausalLM, AutoTokenizer{extra_import}\n\n"
        f"MODEL = {json.dumps(model_reference(answer))}\n\n"
        'tokenizer = AutoTokenizer.from_pretrained(MODEL, padding_side="left")\n'
        "if tokenizer.pad_token is None:\n"
        "    tokenizer.pad_token = tokenizer.eos_token\n"
        "model = AutoModelForCausalLM.from_pretrained(\n"
        "    MODEL,\n"
        f"    dtype=torch.{dtype},\n"
        '    device_map="auto",\n'
        '    attn_implementation="sdpa",\n'
        f"{load}"
        ")\n"
        f'prompts = ["What does a GPU\'s memory hold?"] * {inference.concurrency}\n'
        "inputs = tokenizer(\n"
        f'    prompts, return_tensors="pt", padding=True, truncation=True, '
        f"max_length={max(1, inference.input_tokens)},\n"
        ").to(model.device)\n"
        "with torch.inference_mode():\n"
        f"    output = model.generate(**inputs, max_new_tokens={max(1, inference.output_tokens)})\n"
        "print(tokenizer.batch_decode(output, skip_special_tokens=True)[0])\n"
    )


def quantize_script(answer: Estimate, precision: str) -> str:
    """Return a script that makes a checkpoint of ``fp8``, ``int8``, ``int4`` or ``nvfp4``.

    Raises:
        KeyError: LLM Compressor has no scheme for the precision.
    """
    scheme = {"fp8": "FP8_DYNAMIC", "int8": "W8A16", "int4": "W4A16", "nvfp4": "NVFP4A16"}[
        precision
    ]
    calibrated = precision == "int4"
    kind = "GPTQModifier" if calibrated else "QuantizationModifier"
    module = "gptq" if calibrated else "quantization"
    samples = (
        '    dataset="open_platypus",\n    num_calibration_samples=512,\n    max_seq_length=2048,\n'
        if calibrated
        else ""
    )
    return (
        f'"""Quantise the weights to {precision}; vLLM and SGLang load the result."""\n\n'
        "from llmcompressor import oneshot\n"
        f"from llmcompressor.modifiers.{module} import {kind}\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"MODEL = {json.dumps(model_reference(answer))}\n"
        f"OUTPUT = {json.dumps(f'{file_stem(answer)}-{precision}')}\n\n"
        "tokenizer = AutoTokenizer.from_pretrained(MODEL)\n"
        'model = AutoModelForCausalLM.from_pretrained(MODEL, dtype="auto")\n'
        "oneshot(\n"
        "    model=model,\n"
        "    tokenizer=tokenizer,\n"
        f'    recipe={kind}(targets="Linear", scheme={json.dumps(scheme)}, ignore=["lm_head"]),\n'
        f"{samples}"
        ")\n"
        "model.save_pretrained(OUTPUT, save_compressed=True)\n"
        "tokenizer.save_pretrained(OUTPUT)\n"
    )


# --------------------------------------------------------------------------- training


def training_script(answer: Estimate) -> str:
    """Return a transformers (and PEFT) training script: full, LoRA or QLoRA."""
    fitting, engine = answer.scenario.fitting, answer.scenario.engine
    adapters, qlora = fitting.method != "full", fitting.method == "qlora"
    fsdp = fitting.sharding == "fsdp" or engine == "fsdp"
    deepspeed = engine == "deepspeed" or fitting.sharding.startswith("zero")
    mode = fitting.mixed_precision
    # FP32 shards gathered in BF16 are FSDP's master copy; DeepSpeed keeps its own.
    wide = mode in ("amp_bf16", "amp_fp16", "fp32") or (mode == "bf16_master" and not deepspeed)
    dtype = "float32" if wide and not adapters else "bfloat16"
    if mode == "amp_fp16" and adapters:
        dtype = "float16"
    imports = ["AutoModelForCausalLM", "AutoTokenizer", "DataCollatorForLanguageModeling",
               "Trainer", "TrainingArguments"]  # fmt: skip
    if qlora:
        imports.insert(2, "BitsAndBytesConfig")
    lines = ['"""Train on texts, one JSON object {"text": …} a line in ' + DATA_FILE + '."""', ""]
    lines += ["import torch", "from datasets import load_dataset"]
    if adapters:
        peft = ["LoraConfig", "get_peft_model"]
        if qlora:
            peft.append("prepare_model_for_kbit_training")
        lines.append(f"from peft import {', '.join(peft)}")
    lines += ["from transformers import (", *(f"    {name}," for name in imports), ")", ""]
    lines += [
        f"MODEL = {json.dumps(model_reference(answer))}",
        f"SEQUENCE_LENGTH = {fitting.sequence_length}",
        "",
    ]
    if mode == "fp32":
        lines += ['torch.set_float32_matmul_precision("high")  # TF32 in matrix products', ""]
    if fitting.optimizer == "muon":
        lines += [
            "# transformers' Trainer has no Muon: AdamW here; Muon needs a loop of your own.",
            "",
        ]
    # With sharded weights the arguments come first, so that loading shards as well.
    lines += ["arguments = TrainingArguments("]
    lines += [f"    {name}={value}," for name, value in _arguments(answer, fsdp, deepspeed)]
    lines += [")", ""]
    lines += [
        "tokenizer = AutoTokenizer.from_pretrained(MODEL)",
        "if tokenizer.pad_token is None:",
        "    tokenizer.pad_token = tokenizer.eos_token",
    ]
    lines += ["model = AutoModelForCausalLM.from_pretrained(", "    MODEL,"]
    lines += [f"    dtype=torch.{dtype},", '    attn_implementation="sdpa",']
    if qlora:
        lines += [
            "    quantization_config=BitsAndBytesConfig(",
            '        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,',
            f"        bnb_4bit_compute_dtype=torch.{dtype}, bnb_4bit_quant_storage=torch.{dtype},",
            "    ),",
        ]
    lines += [")", "model.config.use_cache = False"]
    if qlora:
        checkpoint = fitting.gradient_checkpointing and not fsdp
        lines += [
            "model = prepare_model_for_kbit_training(",
            f"    model, use_gradient_checkpointing={checkpoint}",
            ")",
        ]
    if adapters:
        lines += [
            "model = get_peft_model(",
            "    model,",
            "    LoraConfig(",
            f"        r={fitting.lora_rank}, lora_alpha={2 * fitting.lora_rank}, lora_dropout=0.0,",
            f'        target_modules={_targets(answer)}, task_type="CAUSAL_LM",',
            "    ),",
            ")",
        ]
        if fitting.gradient_checkpointing and not qlora:
            lines += ["model.enable_input_require_grads()"]
    lines += ["", *_DATA, "", "trainer.train()", 'trainer.save_model("output")', ""]
    return "\n".join(lines)


_DATA = (
    "",
    "def pack(batch):",
    '    """Join texts and cut them into equal pieces."""',
    '    tokens = [t for ids in tokenizer(batch["text"])["input_ids"]',
    "              for t in [*ids, tokenizer.eos_token_id]]",
    "    pieces = range(0, len(tokens) - SEQUENCE_LENGTH + 1, SEQUENCE_LENGTH)",
    '    return {"input_ids": [tokens[i : i + SEQUENCE_LENGTH] for i in pieces]}',
    "",
    "",
    f'texts = load_dataset("json", data_files="{DATA_FILE}", split="train")',
    "data = texts.map(pack, batched=True, remove_columns=texts.column_names)",
    "trainer = Trainer(",
    "    model=model,",
    "    args=arguments,",
    "    train_dataset=data,",
    "    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),",
    "    processing_class=tokenizer,",
    ")",
)


def _targets(answer: Estimate) -> str:
    """LoRA's target modules as a Python literal."""
    asked = answer.scenario.fitting.lora_targets
    if asked == "all_linear":
        return '"all-linear"'
    if asked == "attention":
        names = {
            m.module or m.name
            for g in answer.architecture.groups
            for m in g.layer.matrices
            if m.linear and m.role == "attention"
        }
        return json.dumps(sorted(names))
    return json.dumps(list(asked))


def _arguments(answer: Estimate, fsdp: bool, deepspeed: bool) -> list[tuple[str, str]]:
    """Arguments of ``TrainingArguments`` as Python source."""
    fitting = answer.scenario.fitting
    mode = fitting.mixed_precision
    rate = "1e-4" if fitting.method != "full" else "1e-5"
    out = [
        ("output_dir", '"output"'),
        ("per_device_train_batch_size", str(fitting.micro_batch_size)),
        ("gradient_accumulation_steps", str(fitting.gradient_accumulation)),
        ("num_train_epochs", "1"),
        ("learning_rate", rate),
        ("optim", json.dumps(OPTIMIZERS[fitting.optimizer])),
        # DeepSpeed refuses a mode that differs from its own file's.
        ("bf16", str(mode in ("amp_bf16", "bf16_master") or (deepspeed and mode == "pure_bf16"))),
        ("fp16", str(mode == "amp_fp16")),
        ("logging_steps", "10"),
        ("save_strategy", '"epoch"'),
    ]
    if fsdp:
        # transformers refuses checkpointing in both places; the FSDP file has it.
        out += [("fsdp", "True"), ("fsdp_config", '"fsdp.json"')]
    else:
        out.append(("gradient_checkpointing", str(fitting.gradient_checkpointing)))
        if fitting.gradient_checkpointing:
            out.append(("gradient_checkpointing_kwargs", '{"use_reentrant": False}'))
    if deepspeed and not fsdp:
        out.append(("deepspeed", '"deepspeed.json"'))
    return out


def deepspeed_config(answer: Estimate) -> dict[str, Any]:
    """Return DeepSpeed's configuration: ZeRO stage, offload, precision, batch."""
    fitting = answer.scenario.fitting
    stage = ZERO_STAGE[fitting.sharding]
    zero: dict[str, Any] = {"stage": stage}
    if stage >= 1:
        zero |= {"overlap_comm": True, "contiguous_gradients": True}
    host = {"device": "cpu", "pin_memory": True}
    if fitting.offload != "none":
        zero["offload_optimizer"] = host
    if fitting.offload == "parameters":
        zero["offload_param"] = host
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    mode = fitting.mixed_precision
    out: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": fitting.micro_batch_size,
        "gradient_accumulation_steps": fitting.gradient_accumulation,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": mode in ("amp_bf16", "pure_bf16", "bf16_master")},
        "fp16": {"enabled": mode == "amp_fp16"},
        "zero_optimization": zero,
    }
    if fitting.gradient_checkpointing:
        out["activation_checkpointing"] = {"partition_activations": answer.split.tensor > 1}
    return out


def fsdp_config(answer: Estimate) -> dict[str, Any]:
    """Return the FSDP2 configuration that transformers' ``fsdp_config`` takes."""
    fitting = answer.scenario.fitting
    return {
        "version": 2,
        "reshard_after_forward": fitting.sharding in ("fsdp", "zero3"),
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "cpu_offload": fitting.offload != "none",
        "activation_checkpointing": fitting.gradient_checkpointing,
        "cpu_ram_efficient_loading": fitting.method != "qlora",
        "state_dict_type": "FULL_STATE_DICT",
    }


def accelerate_config(answer: Estimate) -> str:
    """Return the same as an ``accelerate launch --config_file`` YAML."""
    fitting = answer.scenario.fitting
    hosts, per_host = _hosts(answer)
    precision = {"amp_fp16": "fp16", "fp32": "no", "pure_bf16": "no"}.get(
        fitting.mixed_precision, "bf16"
    )
    names = {"cpu_offload": "offload_params"}
    lines = [
        "# accelerate launch --config_file accelerate.yaml train.py",
        "# Instead of torchrun; take fsdp and fsdp_config out of TrainingArguments then.",
        "compute_environment: LOCAL_MACHINE",
        "distributed_type: FSDP",
        f"mixed_precision: '{precision}'",
        f"num_machines: {hosts}",
        f"num_processes: {hosts * per_host}",
        "machine_rank: 0",
        "main_training_function: main",
        "fsdp_config:",
    ]
    for name, value in fsdp_config(answer).items():
        text = str(value).lower() if isinstance(value, bool) else value
        lines.append(f"  fsdp_{names.get(name, name)}: {text}")
    return "\n".join(lines) + "\n"


def _hosts(answer: Estimate) -> tuple[int, int]:
    """Hosts and processes a host."""
    gpus = answer.split.gpus
    hosts = -(-gpus // HOST_GPUS)
    return hosts, -(-gpus // hosts)


def torchrun_line(answer: Estimate, script: str = "train.py") -> str:
    """Return the ``torchrun`` line that starts a script on all cards."""
    hosts, per_host = _hosts(answer)
    if hosts == 1:
        return command(["torchrun", "--standalone", f"--nproc-per-node={per_host}", script], [])
    note = _note("On every host; set NODE_RANK (0, 1, …) and MASTER_ADDR there.")
    return note + (
        f"torchrun --nnodes={hosts} --nproc-per-node={per_host} "
        '--node-rank="$NODE_RANK" --master-addr="$MASTER_ADDR" --master-port=29500 '
        + shlex.quote(script)
    )


def megatron_command(answer: Estimate) -> str:
    """Return the Megatron-LM pre-training command for a Llama-like model."""
    fitting, arch, split = answer.scenario.fitting, answer.architecture, answer.split
    layer = next((g.layer for g in arch.groups if g.layer.heads), arch.groups[0].layer)
    grouped = layer.kv_heads and layer.kv_heads != layer.heads
    batch = fitting.micro_batch_size * fitting.gradient_accumulation * split.data
    options: list[tuple[str, Any]] = [
        ("--use-mcore-models", True),
        ("--num-layers", arch.num_layers),
        ("--hidden-size", arch.hidden_size),
        ("--ffn-hidden-size", layer.ffn),
        ("--num-attention-heads", layer.heads),
        ("--group-query-attention", bool(grouped)),
        ("--num-query-groups", layer.kv_heads if grouped else None),
        ("--num-experts", arch.experts if arch.is_moe else None),
        ("--moe-router-topk", layer.experts_per_token or None),
        ("--seq-length", fitting.sequence_length),
        ("--max-position-embeddings", fitting.sequence_length),
        ("--position-embedding-type", "rope"),
        ("--normalization", "RMSNorm"),
        ("--swiglu", layer.gated),
        ("--disable-bias-linear", True),
        ("--untie-embeddings-and-output-weights", not arch.tied_embeddings),
        ("--tensor-model-parallel-size", split.tensor),
        ("--pipeline-model-parallel-size", split.pipeline),
        ("--expert-model-parallel-size", split.expert if split.expert > 1 else None),
        ("--sequence-parallel", split.tensor > 1),
        ("--use-distributed-optimizer", fitting.sharding != "none"),
        ("--micro-batch-size", fitting.micro_batch_size),
        ("--global-batch-size", batch),
        ("--bf16", fitting.mixed_precision != "fp32"),
        ("--recompute-granularity", "full" if fitting.gradient_checkpointing else None),
        ("--recompute-method", "uniform" if fitting.gradient_checkpointing else None),
        ("--recompute-num-layers", 1 if fitting.gradient_checkpointing else None),
        ("--lr", "3e-4"),
        ("--train-iters", 1000),
        ("--tokenizer-type", "HuggingFaceTokenizer"),
        ("--tokenizer-model", model_reference(answer)),
        ("--data-path", "data_text_document"),
    ]
    return _with_options(torchrun_line(answer, "pretrain_gpt.py"), options)


# --------------------------------------------------------------------------- all of it


def artifacts(answer: Estimate) -> tuple[Artifact, ...]:
    """Return the files that run an answered scenario, the one to start with first.

    Args:
        answer: Of :func:`configurator.estimate.estimate`; its engine decides what is made.
    """
    scenario = answer.scenario
    if scenario.is_training:
        return _training_artifacts(answer)
    if scenario.engine == "transformers":
        return (Artifact("generate.py", "python", transformers_script(answer)),)
    text = {
        "vllm": vllm_command, "sglang": sglang_command, "llama_cpp": llama_cpp_command,
        "tensorrt_llm": tensorrt_llm_command,
    }[scenario.engine](answer)  # fmt: skip
    out = [Artifact("serve.sh", "bash", _script(text))]
    if _checkpoint_note(answer) and answer.precision in ("fp8", "int8", "int4", "nvfp4"):
        out.append(Artifact("quantize.py", "python", quantize_script(answer, answer.precision)))
    return tuple(out)


def _script(text: str) -> str:
    return f"#!/usr/bin/env bash\nset -euo pipefail\n{text}\n"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _training_artifacts(answer: Estimate) -> tuple[Artifact, ...]:
    scenario = answer.scenario
    if scenario.engine == "megatron":
        return (Artifact("train.sh", "bash", _script(megatron_command(answer))),)
    fitting = scenario.fitting
    out = [
        Artifact("train.sh", "bash", _script(torchrun_line(answer))),
        Artifact("train.py", "python", training_script(answer)),
    ]
    if fitting.sharding == "fsdp" or scenario.engine == "fsdp":
        out.append(Artifact("fsdp.json", "json", _json(fsdp_config(answer))))
        out.append(Artifact("accelerate.yaml", "yaml", accelerate_config(answer)))
    elif scenario.engine == "deepspeed" or fitting.sharding.startswith("zero"):
        out.append(Artifact("deepspeed.json", "json", _json(deepspeed_config(answer))))
    return tuple(out)
