"""Code that trains an answered scenario: scripts, their configurations and start lines.

After transformers 5, PEFT, DeepSpeed 0.17, FSDP2 through transformers, and Megatron Core.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from configurator.estimate import Estimate
from configurator.export.megatron import megatron_command
from configurator.export.shell import (
    DTYPES,
    Artifact,
    command,
    loader,
    model_reference,
    note,
    script,
)
from configurator.memory.training_state import as_run, zero_stage
from configurator.parallelism import HOST_GPUS
from configurator.scenario import Training
from configurator.words import say

OPTIMIZERS = {
    "adamw": "adamw_torch", "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit", "adafactor": "adafactor", "sgd": "sgd",
    # transformers' Trainer has no Muon; the script says so.
    "muon": "adamw_torch",
}  # fmt: skip
DATA_FILE = "train.jsonl"


def _run(answer: Estimate) -> tuple[Training, str]:
    """Return how it trains, and which of ``transformers deepspeed fsdp`` does the work.

    FSDP that does not shard is plain DDP.
    """
    fitting, engine = as_run(answer.scenario.fitting, answer.scenario.engine)
    if engine == "fsdp" and fitting.sharding in ("none", "ddp"):
        engine = "transformers"
    return fitting, engine


def training_script(answer: Estimate, language: str = "en") -> str:
    """Return a transformers (and PEFT) training script: full, LoRA or QLoRA."""
    fitting, engine = _run(answer)
    adapters, qlora = fitting.method != "full", fitting.method == "qlora"
    fsdp, deepspeed = engine == "fsdp", engine == "deepspeed"
    mode = fitting.mixed_precision
    # FP32 shards gathered in BF16 are FSDP's master copy; DeepSpeed keeps its own.
    wide = mode in ("amp_bf16", "amp_fp16", "fp32") or (mode == "bf16_master" and not deepspeed)
    dtype = "float32" if wide and not adapters else "bfloat16"
    if mode == "amp_fp16" and adapters:
        dtype = "float16"
    imports = [loader(answer), "AutoTokenizer", "Trainer", "TrainingArguments",
               "default_data_collator"]  # fmt: skip
    eight = answer.precision == "int8"
    if qlora:
        imports.insert(2, "BitsAndBytesConfig")
    if adapters and answer.precision == "fp32":
        dtype = "float32"
    about = say("code.train", language, example='{"text": …}', file=DATA_FILE)
    lines = [f'"""{about}"""', ""]
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
        said = say("code.tf32", language)
        lines += [f'torch.set_float32_matmul_precision("high")  # {said}', ""]
    if fitting.optimizer == "muon":
        lines += [note("code.no_muon", language)]
    # With sharded weights the arguments come first, so that loading shards as well.
    lines += ["arguments = TrainingArguments("]
    lines += [f"    {name}={value}," for name, value in _arguments(answer, fsdp, deepspeed)]
    lines += [")", ""]
    lines += ["tokenizer = AutoTokenizer.from_pretrained(MODEL)"]
    if adapters and not qlora and answer.precision not in DTYPES:
        lines += [note("code.base_precision", language, precision=answer.precision).rstrip()]
    lines += [f"model = {loader(answer)}.from_pretrained(", "    MODEL,"]
    lines += [f"    dtype=torch.{dtype},"]
    if qlora and eight:
        lines += ["    quantization_config=BitsAndBytesConfig(load_in_8bit=True),"]
    elif qlora:
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
    lines += ["", *_data(language), "", "trainer.train()", 'trainer.save_model("output")', ""]
    return "\n".join(lines)


def _data(language: str) -> tuple[str, ...]:
    """Lines that read the texts and give them to a trainer."""
    too_few = say("code.too_few_tokens", language, file=DATA_FILE)
    return (
        "",
        "def pack(batch):",
        f'    """{say("code.pack", language)}"""',
        '    tokens = [t for ids in tokenizer(batch["text"])["input_ids"]',
        "              for t in [*ids, tokenizer.eos_token_id]]",
        "    starts = range(0, len(tokens) - SEQUENCE_LENGTH + 1, SEQUENCE_LENGTH)",
        "    pieces = [tokens[i : i + SEQUENCE_LENGTH] for i in starts]",
        '    return {"input_ids": pieces, "labels": pieces}',
        "",
        "",
        f'texts = load_dataset("json", data_files="{DATA_FILE}", split="train")',
        "data = texts.map(pack, batched=True, batch_size=10_000, "
        "remove_columns=texts.column_names)",
        "if not len(data):",
        f"    raise SystemExit({json.dumps(too_few, ensure_ascii=False)})",
        "trainer = Trainer(",
        "    model=model,",
        "    args=arguments,",
        "    train_dataset=data,",
        # A collator that pads would leave every end of text, often the padding, out of the loss.
        "    data_collator=default_data_collator,",
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
            # bitsandbytes' 8-bit products keep their inputs out of sight of the other kind.
            again = fitting.method == "qlora" and answer.precision == "int8"
            out.append(("gradient_checkpointing_kwargs", f'{{"use_reentrant": {again}}}'))
    if deepspeed and not fsdp:
        out.append(("deepspeed", '"deepspeed.json"'))
    return out


def deepspeed_config(answer: Estimate) -> dict[str, Any]:
    """Return DeepSpeed's configuration: ZeRO stage, offload, precision, batch."""
    fitting, _ = _run(answer)
    stage = zero_stage(fitting)
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
    fitting, _ = _run(answer)
    return {
        "version": 2,
        "reshard_after_forward": fitting.sharding == "fsdp",
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "cpu_offload": fitting.offload != "none",
        "activation_checkpointing": fitting.gradient_checkpointing,
        "cpu_ram_efficient_loading": fitting.method != "qlora",
        "state_dict_type": "FULL_STATE_DICT",
    }


def accelerate_config(answer: Estimate, language: str = "en") -> str:
    """Return the same as an ``accelerate launch --config_file`` YAML."""
    fitting = answer.scenario.fitting
    hosts, per_host = _hosts(answer)
    precision = {"amp_fp16": "fp16", "fp32": "no", "pure_bf16": "no"}.get(
        fitting.mixed_precision, "bf16"
    )
    names = {"cpu_offload": "offload_params"}
    lines = [
        "# accelerate launch --config_file accelerate.yaml train.py",
        note("code.accelerate", language).rstrip(),
        "compute_environment: LOCAL_MACHINE",
        "distributed_type: FSDP",
        f"mixed_precision: '{precision}'",
        f"num_machines: {hosts}",
        f"num_processes: {hosts * per_host}",
        *(
            [
                f"main_process_ip: ''  # {say('code.first_host', language)}",
                "main_process_port: 29500",
                note("code.machine_rank", language).rstrip(),
            ]
            if hosts > 1
            else []
        ),
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
    per_host = next(n for n in range(min(gpus, HOST_GPUS), 0, -1) if gpus % n == 0)
    return gpus // per_host, per_host


def torchrun_line(answer: Estimate, script: str = "train.py", language: str = "en") -> str:
    """Return the ``torchrun`` line that starts a script on all cards."""
    hosts, per_host = _hosts(answer)
    threads = ""
    if answer.scenario.fitting.offload != "none" and per_host > 1:
        # torchrun leaves one thread to each process; the optimizer on the host needs its share.
        threads = f"export OMP_NUM_THREADS=$(($(nproc) / {per_host}))\n"
    if hosts == 1:
        line = command(["torchrun", "--standalone", f"--nproc-per-node={per_host}", script], [])
        return threads + line
    hint = note("code.every_host", language)
    return (
        hint
        + threads
        + (
            f"torchrun --nnodes={hosts} --nproc-per-node={per_host} "
            '--node-rank="$NODE_RANK" --master-addr="$MASTER_ADDR" --master-port=29500 '
            + shlex.quote(script)
        )
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def training_files(answer: Estimate, language: str = "en") -> tuple[Artifact, ...]:
    """Return the files of a training run, the one to start with first."""
    scenario = answer.scenario
    if scenario.engine == "megatron":
        start = torchrun_line(answer, "pretrain_gpt.py", language)
        text = megatron_command(answer, start, language)
        return (Artifact("train.sh", "bash", script(text)),)
    out = [
        Artifact("train.sh", "bash", script(torchrun_line(answer, language=language))),
        Artifact("train.py", "python", training_script(answer, language)),
    ]
    _, engine = _run(answer)
    if engine == "fsdp":
        out.append(Artifact("fsdp.json", "json", _json(fsdp_config(answer))))
        out.append(Artifact("accelerate.yaml", "yaml", accelerate_config(answer, language)))
    elif engine == "deepspeed":
        out.append(Artifact("deepspeed.json", "json", _json(deepspeed_config(answer))))
    return tuple(out)
