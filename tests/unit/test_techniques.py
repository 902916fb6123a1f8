"""Techniques: every number from the estimate; the generated code parses and says the scenario."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess

import pytest
import yaml

from configurator.estimate import estimate
from configurator.export import launch
from configurator.scenario import parse_scenario
from configurator.techniques import CODES, Effect, changed, techniques
from configurator.words import say

SERVE = {
    "model": "Qwen/Qwen3-8B", "precision": "bf16", "engine": "vllm",
    "inference": {"concurrency": 10, "input_tokens": 2048, "output_tokens": 512},
    "hardware": {"gpu": "h100-sxm", "gpu_count": 1},
}  # fmt: skip
TRAIN = {
    "model": "Qwen/Qwen3-8B", "task": "fine_tuning", "precision": "bf16", "engine": "transformers",
    "training": {"method": "full", "sequence_length": 4096, "micro_batch_size": 2},
    "hardware": {"gpu": "b200-sxm", "gpu_count": 4},
}  # fmt: skip
R1 = {
    "model": "deepseek-ai/DeepSeek-R1", "precision": "fp8", "engine": "sglang",
    "inference": {"concurrency": 32, "input_tokens": 3072, "output_tokens": 1024},
    "hardware": {"gpu": "h200-sxm", "gpu_count": 8},
}  # fmt: skip
QLORA = {
    "model": "Qwen/Qwen3-8B", "task": "fine_tuning", "precision": "nf4", "engine": "transformers",
    "training": {"method": "qlora", "gradient_checkpointing": True, "lora_targets": "attention"},
    "hardware": {"gpu": "rtx-4090", "gpu_count": 1},
}  # fmt: skip
PRETRAIN = {
    "model": "huggyllama/llama-65b", "task": "training", "precision": "bf16", "engine": "megatron",
    "training": {"mixed_precision": "bf16_master", "gradient_checkpointing": True,
                 "sharding": "zero1", "gradient_accumulation": 16},
    "hardware": {"gpu": "h100-sxm", "gpu_count": 64, "tensor_parallel": 8},
}  # fmt: skip
SCENARIOS = {"serve": SERVE, "train": TRAIN, "r1": R1, "qlora": QLORA, "pretrain": PRETRAIN}


def answer(raw, **changes):
    return estimate(changed(parse_scenario(raw), changes))


def one(raw, code):
    return next(t for t in techniques(parse_scenario(raw)) if t.code == code)


def words(text):
    """The last command of a script as words, comments and line breaks taken out."""
    text = text.replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return shlex.split(lines[-1])


def option(text, name):
    found = words(text)
    return found[found.index(name) + 1] if name in found else None


# ---- techniques


@pytest.mark.parametrize("name", SCENARIOS)
def test_before_and_after_come_from_the_estimate(name):
    scenario = parse_scenario(SCENARIOS[name])
    now = Effect.of(estimate(scenario))
    for t in techniques(scenario):
        if t.state in ("not_applicable", "not_computed"):
            assert t.before is None
            assert t.after is None
            assert t.code_files == ()
            continue
        other = Effect.of(estimate(changed(scenario, t.changes)))
        pair = (now, other) if t.state == "available" else (other, now)
        assert (t.before, t.after) == pair, t.code


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_texts_and_json(name, language):
    for t in techniques(parse_scenario(SCENARIOS[name])):
        assert t.code in CODES
        out = t.to_dict(language)
        assert out["name"]
        assert out["what"]
        assert out["reason"]
        assert "{" not in out["name"] + out["what"] + out["effect"]
        json.dumps(out)


def test_every_code_has_its_words_and_is_met():
    met = {t.code for raw in SCENARIOS.values() for t in techniques(parse_scenario(raw))}
    assert met == set(CODES)
    for language in ("en", "zh"):
        for code in CODES:
            assert say(f"technique.name.{code}", language)
            assert say(f"technique.what.{code}", language)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("mode", ["amp_bf16", "pure_bf16", "bf16_master"])
def test_checkpointing_never_takes_more_memory(batch, method, mode):
    training = {"method": method, "micro_batch_size": batch, "mixed_precision": mode}
    t = one({**TRAIN, "training": training}, "checkpointing")
    assert t.after.required_gib <= t.before.required_gib + 1e-9
    assert t.after.activations_gib <= t.before.activations_gib + 1e-9
    assert t.after.weights_gib == t.before.weights_gib
    assert t.after.tokens_per_s < t.before.tokens_per_s


@pytest.mark.parametrize("code", ["zero1", "zero2", "zero3", "fsdp"])
def test_sharding_saves_and_each_stage_saves_more(code):
    assert one(TRAIN, code).saved_gib > 0
    stages = [one(TRAIN, f"zero{n}").after.required_gib for n in (1, 2, 3)]
    assert stages == sorted(stages, reverse=True)


def test_sharding_needs_two_ranks():
    t = one(QLORA, "zero3")
    assert (t.state, t.reason) == ("not_applicable", "one_rank")


def test_quantisation_and_cache_save():
    eight, four = one(SERVE, "weights_8bit"), one(SERVE, "weights_4bit")
    assert four.after.weights_gib < eight.after.weights_gib < eight.before.weights_gib
    cache = one(SERVE, "kv_8bit")
    assert cache.after.kv_cache_gib == pytest.approx(cache.before.kv_cache_gib / 2)
    assert cache.after.max_concurrency > cache.before.max_concurrency


def test_splits_on_the_same_or_more_cards():
    pair = one(SERVE, "tensor_parallel")
    assert pair.after.gpus == 2
    assert pair.after.weights_gib < 0.6 * pair.before.weights_gib
    copies = one(SERVE, "data_parallel")
    assert copies.after.weights_gib == copies.before.weights_gib
    assert copies.after.tokens_per_s > copies.before.tokens_per_s
    assert one(SERVE, "expert_parallel").state == "not_applicable"
    assert one(R1, "expert_parallel").state == "available"


def test_experts_are_compared_with_a_dense_model_of_the_same_memory():
    t = one(R1, "experts")
    assert t.state == "in_use"
    assert t.after.weights_gib == pytest.approx(t.before.weights_gib, rel=0.05)


def test_what_cannot_be_computed_says_so():
    for code in ("speculative", "flash_attention", "weights_offload", "pruning"):
        t = one(SERVE, code)
        assert t.state == "not_computed"
        assert t.saved_gib is None
        assert t.speed_ratio is None
        assert t.effect() == ""


def test_speed_is_not_compared_with_what_does_not_fit():
    t = one(R1, "tensor_parallel")
    assert t.before.fits is False
    assert t.speed_ratio is None


# ---- generated code

ENGINES = [
    *({**SERVE, "engine": engine} for engine in ("vllm", "sglang", "tensorrt_llm", "transformers")),
    {**SERVE, "engine": "llama_cpp", "precision": "q4_k_m"},
    R1, QLORA, PRETRAIN,
    *(
        {**TRAIN, "engine": engine, "training": {**TRAIN["training"], **training}}
        for engine, training in (
            ("transformers", {}),
            ("transformers", {"method": "lora", "gradient_checkpointing": True}),
            ("transformers", {"mixed_precision": "fp32", "optimizer": "muon"}),
            ("deepspeed", {"sharding": "zero3", "offload": "parameters",
                           "mixed_precision": "pure_bf16"}),
            ("fsdp", {"sharding": "fsdp", "gradient_checkpointing": True}),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("raw", ENGINES, ids=lambda raw: f"{raw['engine']}-{raw['precision']}")
def test_files_parse(raw, tmp_path):
    files = launch.artifacts(estimate(parse_scenario(raw)))
    assert files
    for item in files:
        check(item, tmp_path)


def check(item, tmp_path):
    if item.language == "python":
        compile(item.text, item.name, "exec")
        assert all(len(line) <= 100 for line in item.text.splitlines())
    elif item.language == "json":
        json.loads(item.text)
    elif item.language == "yaml":
        assert yaml.safe_load(item.text)["distributed_type"] == "FSDP"
    else:
        path = tmp_path / item.name
        path.write_text(item.text, encoding="utf-8")
        subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_techniques_code_parses(name, tmp_path):
    for t in techniques(parse_scenario(SCENARIOS[name])):
        for item in t.code_files:
            check(item, tmp_path)


def test_vllm_flags_say_the_scenario():
    text = launch.vllm_command(
        answer(SERVE, **{
            "kv_cache_precision": "fp8", "hardware.gpu_count": 4, "hardware.tensor_parallel": 2,
            "hardware.pipeline_parallel": 1, "hardware.data_parallel": 2,
            "inference.max_model_len": 8192, "inference.gpu_memory_utilization": 0.85,
            "inference.max_num_batched_tokens": 4096, "inference.max_num_seqs": 64,
        })
    )  # fmt: skip
    assert words(text)[:3] == ["vllm", "serve", "Qwen/Qwen3-8B"]
    wanted = {
        "--dtype": "bfloat16", "--kv-cache-dtype": "fp8", "--tensor-parallel-size": "2",
        "--data-parallel-size": "2", "--max-model-len": "8192", "--pipeline-parallel-size": None,
        "--gpu-memory-utilization": "0.85", "--max-num-batched-tokens": "4096",
        "--max-num-seqs": "64", "--quantization": None,
    }  # fmt: skip
    assert {name: option(text, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("precision", "flag"), [("fp8", "fp8"), ("nf4", "bitsandbytes"), ("int4", None)]
)
def test_vllm_quantises_on_loading_what_it_can(precision, flag):
    files = launch.artifacts(answer(SERVE, precision=precision))
    assert option(files[0].text, "--quantization") == flag
    assert ("quantize.py" in [f.name for f in files]) == (flag is None)
    assert ("checkpoint quantised to int4" in files[0].text) == (flag is None)


def test_native_fp8_needs_no_flag():
    text = launch.vllm_command(answer(R1, engine="vllm"))
    assert option(text, "--quantization") is None
    assert "checkpoint" not in text


def test_vllm_experts_and_several_hosts():
    text = launch.vllm_command(
        answer(R1, **{
            "engine": "vllm", "hardware.gpu_count": 16, "hardware.tensor_parallel": 8,
            "hardware.pipeline_parallel": 2, "hardware.expert_parallel": 8,
        })
    )  # fmt: skip
    assert "--enable-expert-parallel" in words(text)
    assert option(text, "--distributed-executor-backend") == "ray"


def test_sglang_flags_say_the_scenario():
    text = launch.sglang_command(
        answer(R1, **{
            "kv_cache_precision": "fp8", "hardware.tensor_parallel": 1,
            "hardware.data_parallel": 8, "hardware.expert_parallel": 8,
            "inference.gpu_memory_utilization": 0.9,
        })
    )  # fmt: skip
    wanted = {
        "--model-path": "deepseek-ai/DeepSeek-R1", "--tp-size": "8", "--dp-size": "8",
        "--ep-size": "8", "--kv-cache-dtype": "fp8_e4m3", "--context-length": "4096",
        "--mem-fraction-static": "0.9",
    }  # fmt: skip
    assert {name: option(text, name) for name in wanted} == wanted
    assert "--enable-dp-attention" in words(text)


def test_llama_cpp_holds_all_slots():
    text = launch.llama_cpp_command(
        answer({**SERVE, "engine": "llama_cpp", "precision": "q4_k_m"}, kv_cache_precision="q8_0")
    )
    assert "llama-quantize Qwen3-8B-bf16.gguf Qwen3-8B-q4_k_m.gguf Q4_K_M" in text
    wanted = {
        "--ctx-size": "25600", "--parallel": "10", "--cache-type-k": "q8_0",
        "--cache-type-v": "q8_0", "--n-gpu-layers": "all", "--flash-attn": "on",
        "--split-mode": "none",
    }  # fmt: skip
    assert {name: option(text, name) for name in wanted} == wanted


def test_training_script_says_the_scenario():
    text = launch.training_script(answer(QLORA))
    for part in (
        "load_in_4bit=True", 'bnb_4bit_quant_type="nf4"', "r=16", "gradient_checkpointing=True",
        "bf16=True", "use_gradient_checkpointing=True", "SEQUENCE_LENGTH = 2048", '"q_proj"',
    ):  # fmt: skip
        assert part in text
    full = launch.training_script(answer(TRAIN))
    assert "peft" not in full
    assert "dtype=torch.float32" in full
    assert "per_device_train_batch_size=2" in full


def test_fsdp_checkpoints_in_one_place_only():
    raw = {**TRAIN, "engine": "fsdp",
           "training": {"sharding": "fsdp", "gradient_checkpointing": True}}  # fmt: skip
    found = answer(raw)
    assert "gradient_checkpointing" not in launch.training_script(found)
    config = launch.fsdp_config(found)
    assert config["activation_checkpointing"] is True
    assert config["reshard_after_forward"] is True
    accelerate = yaml.safe_load(launch.accelerate_config(found))
    assert accelerate["num_processes"] == 4
    assert accelerate["fsdp_config"]["fsdp_version"] == 2


@pytest.mark.parametrize(
    ("sharding", "stage"), [("none", 0), ("zero1", 1), ("zero2", 2), ("zero3", 3)]
)
def test_deepspeed_stage_and_offload(sharding, stage):
    training = {"sharding": sharding, "offload": "optimizer", "micro_batch_size": 3}
    config = launch.deepspeed_config(answer({**TRAIN, "engine": "deepspeed", "training": training}))
    zero = config["zero_optimization"]
    assert zero["stage"] == stage
    assert zero["offload_optimizer"]["device"] == "cpu"
    assert "offload_param" not in zero
    assert config["train_micro_batch_size_per_gpu"] == 3


def test_torchrun_on_one_host_and_on_several():
    assert words(launch.torchrun_line(answer(TRAIN))) == [
        "torchrun", "--standalone", "--nproc-per-node=4", "train.py",
    ]  # fmt: skip
    many = launch.megatron_command(answer(PRETRAIN))
    assert "--nnodes=8 --nproc-per-node=8" in many
    assert option(many, "--tensor-model-parallel-size") == "8"
    assert option(many, "--global-batch-size") == str(16 * 8)
    assert "--use-distributed-optimizer" in words(many)


HOSTILE = (
    'x"; touch pwned; $(touch pwned) `touch pwned`', "a\nb; touch pwned", "--help",
    "'; touch pwned",
    '"""\nimport os', "..", "",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_model_names_cannot_inject(name, tmp_path):
    config = {
        "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 1024,
        "vocab_size": 32000, "torch_dtype": "bfloat16",
    }  # fmt: skip
    model = {"config": config, "name": name}
    expected = " ".join(name.split())
    if not expected or expected.startswith("-"):
        expected = f"./{expected}"
    for raw in ENGINES:
        found = answer({**raw, "precision": "bf16", "model": model}
                       if "training" not in raw or raw["training"].get("method") != "qlora"
                       else {**raw, "model": model},
                       **{"hardware.tensor_parallel": None})  # fmt: skip
        for item in launch.artifacts(found):
            check(item, tmp_path)
            if item.language == "python":
                tree = ast.parse(item.text)
                value = next(
                    node.value.value for node in tree.body
                    if isinstance(node, ast.Assign) and node.targets[0].id == "MODEL"
                )  # fmt: skip
                assert value == expected
            elif item.language == "bash":
                # Run with every program replaced: nothing but those may be started.
                stubs = " ".join(
                    f"{p}() {{ :; }};"
                    for p in ("vllm", "python", "hf", "llama-server", "llama-quantize", "torchrun",
                              "trtllm-serve")
                )  # fmt: skip
                subprocess.run(
                    ["bash", "-c", f"{stubs} NODE_RANK=0; MASTER_ADDR=h;\n{item.text}"],
                    check=True, cwd=tmp_path,
                )  # fmt: skip
    assert not list(tmp_path.glob("pwned*"))
    assert "touch pwned" not in " ".join(p.name for p in tmp_path.iterdir())


def test_a_model_of_a_size_is_a_folder():
    found = answer({**SERVE, "model": {"parameters_b": 13}})
    assert words(launch.vllm_command(found))[2] == "./model-13b"
