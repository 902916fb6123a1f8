"""The generated code parses and says the scenario."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from typing import get_args

import pytest
import yaml

from configurator.estimate import estimate
from configurator.export import launch, serving, training
from configurator.export.launch import artifacts
from configurator.scenario import Offload, Sharding, parse_scenario
from configurator.techniques import techniques
from configurator.words import messages
from tests.unit.technique_cases import (
    PRETRAIN,
    QLORA,
    R1,
    SCENARIOS,
    SERVE,
    TRAIN,
    answer,
    one,
    option,
    parses,
    reads_alike,
    words,
)

ENGINES = [
    *({**SERVE, "engine": engine} for engine in ("vllm", "sglang", "tensorrt_llm", "transformers")),
    {**SERVE, "engine": "llama_cpp", "precision": "q4_k_m"},
    R1, QLORA, PRETRAIN,
    *(
        {**TRAIN, "engine": engine, "training": {**TRAIN["training"], **asked}}
        for engine, asked in (
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
def test_files_parse(raw):
    found = estimate(parse_scenario(raw))
    files = launch.artifacts(found)
    assert files == launch.artifacts(found, "en") != ()
    reads_alike(files, launch.artifacts(found, "zh"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_techniques_code_parses(name):
    for t in techniques(parse_scenario(SCENARIOS[name])):
        reads_alike(t.code_files(), t.code_files("zh"))
        assert [file["text"] for file in t.to_dict("zh")["code_files"]] == [
            item.text for item in t.code_files("zh")
        ]


SPANNING = {"gpu_count": 32, "tensor_parallel": 8, "pipeline_parallel": 2, "data_parallel": 2}
# What is left to say by what runs above.
NOTED = [
    {**SERVE, "kv_cache_precision": "q8_0", "hardware": {"gpu": "h100-sxm", **SPANNING}},
    *(
        {**SERVE, "engine": engine, "kv_cache_precision": "q8_0", "precision": "int4",
         "inference": {"prefix_cache_share": 0.5}, "hardware": {"gpu": "b200-sxm", **SPANNING}}
        for engine in ("sglang", "tensorrt_llm")
    ),
    *(
        {**SERVE, "engine": "llama_cpp", "precision": "int4",
         "hardware": {"gpu": "h100-sxm", "gpu_count": count, "data_parallel": count,
                      "pipeline_parallel": 1}}
        for count in (9, 16)
    ),
    {**SERVE, "precision": "mxfp4", "hardware": {"gpu": "b200-sxm", "gpu_count": 1}},
    {**SERVE, "precision": "nvfp4", "hardware": {"gpu": "b200-sxm", "gpu_count": 1}},
    {**SERVE, "engine": "transformers", "precision": "nf4"},
    {**R1, "precision": "int4"},
    {**TRAIN, "precision": "fp8", "training": {"method": "lora"}},
    {**TRAIN, "engine": "fsdp", "training": {"sharding": "fsdp"},
     "hardware": {"gpu": "h100-sxm", "gpu_count": 16}},
    {**TRAIN, "engine": "megatron", "training": {"method": "lora"}},
    {**TRAIN, "engine": "megatron", "training": {"method": "full", "optimizer": "muon"}},
    {**TRAIN, "engine": "megatron", "model": R1["model"],
     "hardware": {"gpu": "h200-sxm", "gpu_count": 128}},
]  # fmt: skip


def test_every_sentence_is_said_in_both_languages():
    answers = [estimate(parse_scenario(raw)) for raw in (*ENGINES, *NOTED)]
    pruned = one(SERVE, "pruning")
    for found in answers:
        reads_alike(launch.artifacts(found), launch.artifacts(found, "zh"))
    for language in ("en", "zh"):
        files = [item for found in answers for item in launch.artifacts(found, language)]
        text = "\n".join(item.text for item in (*files, *pruned.code_files(language)))
        sentences = {k: v for k, v in messages(language).items() if k.startswith("code.")}
        patterns = {k: re.sub(r"\\{\w+\\}", ".+", re.escape(v)) for k, v in sentences.items()}
        assert [k for k, pattern in patterns.items() if not re.search(pattern, text)] == []


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt_llm", "llama_cpp", "transformers"])
def test_serving_code_says_each_technique(engine):
    precision = "q8_0" if engine == "llama_cpp" else "bf16"
    raw = {**SERVE, "engine": engine, "precision": precision}
    if engine == "transformers":
        raw["inference"] = {**SERVE["inference"], "concurrency": 1}
    without = launch.artifacts(estimate(parse_scenario(raw)))
    for t in techniques(parse_scenario(raw)):
        if t.state == "available":
            assert t.code_files() != without, t.code


@pytest.mark.parametrize("engine", ["transformers", "deepspeed", "fsdp", "megatron"])
@pytest.mark.parametrize("sharding", ["none", "zero2"])
def test_training_code_says_each_technique(engine, sharding):
    raw = {**TRAIN, "engine": engine, "training": {**TRAIN["training"], "sharding": sharding}}
    without = launch.artifacts(estimate(parse_scenario(raw)))
    for t in techniques(parse_scenario(raw)):
        if t.state == "available":
            assert t.code_files() != without, t.code


LEVERS = {"inference.speculative_tokens": 3, "inference.prefix_cache_share": 0.5,
          "kv_cache_precision": "fp8"}  # fmt: skip


def test_vllm_levers():
    text = serving.vllm_command(answer(SERVE, **LEVERS))
    assert json.loads(option(text, "--speculative-config")) == {
        "method": "ngram", "prompt_lookup_max": 4, "num_speculative_tokens": 3,
    }  # fmt: skip
    assert "--enable-prefix-caching" in words(text)
    own = serving.vllm_command(answer(R1, engine="vllm", **{"inference.speculative_tokens": 1}))
    assert json.loads(option(own, "--speculative-config")) == {
        "method": "mtp", "num_speculative_tokens": 1,
    }  # fmt: skip


def test_sglang_levers():
    plain = serving.sglang_command(answer({**SERVE, "engine": "sglang"}, **LEVERS))
    assert option(plain, "--speculative-algorithm") == "NGRAM"
    assert option(plain, "--speculative-num-draft-tokens") == "4"
    own = serving.sglang_command(answer(R1, **{"inference.speculative_tokens": 1}))
    wanted = {
        "--speculative-algorithm": "EAGLE", "--speculative-num-steps": "1",
        "--speculative-eagle-topk": "1", "--speculative-num-draft-tokens": "2",
    }  # fmt: skip
    assert {name: option(own, name) for name in wanted} == wanted


def test_tensorrt_llm_takes_its_levers_from_a_file():
    files = launch.artifacts(answer({**SERVE, "engine": "tensorrt_llm"}, **LEVERS))
    assert option(files[0].text, "--config") == files[1].name == "config.yaml"
    assert yaml.safe_load(files[1].text) == {
        "kv_cache_config": {"dtype": "fp8", "enable_block_reuse": True},
        "speculative_config": {"decoding_type": "NGram", "max_draft_len": 3,
                               "max_matching_ngram_size": 4},
    }  # fmt: skip
    bare = launch.artifacts(answer({**SERVE, "engine": "tensorrt_llm"}))
    assert [f.name for f in bare] == ["serve.sh"]


def test_llama_cpp_and_transformers_levers():
    gguf = {**SERVE, "engine": "llama_cpp", "precision": "q4_k_m"}
    text = serving.llama_cpp_command(answer(gguf, **LEVERS))
    wanted = {"--spec-type": "ngram-simple", "--spec-ngram-simple-size-m": "3",
              "--cache-reuse": "256"}  # fmt: skip
    assert {name: option(text, name) for name in wanted} == wanted
    one_prompt = {**SERVE, "engine": "transformers", "inference": {"concurrency": 1}}
    script = serving.transformers_script(answer(one_prompt, **{"inference.speculative_tokens": 2}))
    assert "prompt_lookup_num_tokens=2" in script


def test_vllm_is_told_of_more_requests_than_it_takes_by_default():
    """24 GiB: 256 at once by default, a replica; without the flag the rest would wait."""
    for users, told in ((256, None), (300, "300"), (600, "600")):
        text = serving.vllm_command(
            answer(SERVE, **{"inference.concurrency": users, "hardware.gpu": "rtx-4090"})
        )
        assert option(text, "--max-num-seqs") == told


def test_an_older_vllm_is_told_of_more_requests_too():
    """Before 0.8 its default was 256 on every card."""
    raw = {
        "model": "Qwen/Qwen3-8B", "engine": "vllm", "precision": "bf16",
        "inference": {"concurrency": 600, "input_tokens": 512, "output_tokens": 128},
        "hardware": {"gpu": "h100-sxm", "gpu_count": 1},
    }  # fmt: skip
    assert "--max-num-seqs" not in words(serving.vllm_command(answer(raw)))
    old = words(serving.vllm_command(answer({**raw, "engine_version": "0.7.3"})))
    assert old[old.index("--max-num-seqs") + 1] == "600"


def test_vllm_flags_say_the_scenario():
    text = serving.vllm_command(
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
    text = serving.vllm_command(answer(R1, engine="vllm"))
    assert option(text, "--quantization") is None
    assert "checkpoint" not in text


def test_vllm_experts_and_several_hosts():
    text = serving.vllm_command(
        answer(R1, **{
            "engine": "vllm", "hardware.gpu_count": 16, "hardware.tensor_parallel": 8,
            "hardware.pipeline_parallel": 2, "hardware.expert_parallel": 8,
        })
    )  # fmt: skip
    assert "--enable-expert-parallel" in words(text)
    assert option(text, "--distributed-executor-backend") == "ray"


def test_sglang_flags_say_the_scenario():
    text = serving.sglang_command(
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
    text = serving.llama_cpp_command(
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
    text = training.training_script(answer(QLORA))
    for part in (
        "load_in_4bit=True", 'bnb_4bit_quant_type="nf4"', "r=16", "gradient_checkpointing=True",
        "bf16=True", "use_gradient_checkpointing=True", "SEQUENCE_LENGTH = 2048", '"q_proj"',
    ):  # fmt: skip
        assert part in text
    full = training.training_script(answer(TRAIN))
    assert "peft" not in full
    assert "dtype=torch.float32" in full
    assert "per_device_train_batch_size=2" in full


@pytest.mark.parametrize("raw", [TRAIN, QLORA], ids=["full", "qlora"])
def test_training_learns_where_texts_end(raw):
    """A collator that pads masks the padding token, often the end of text, out of the loss."""

    class Tokenizer:
        eos_token_id = 0

        def __call__(self, texts):
            return {"input_ids": [[len(word) for word in text.split()] for text in texts]}

    text = training.training_script(answer(raw))
    assert "data_collator=default_data_collator" in text
    names = {"tokenizer": Tokenizer(), "SEQUENCE_LENGTH": 3}
    pack = next(x for x in ast.parse(text).body if isinstance(x, ast.FunctionDef))
    exec(compile(ast.unparse(pack), "train.py", "exec"), names)
    pieces = names["pack"]({"text": ["a bb", "ccc a", "a"]})
    assert pieces["input_ids"] == [[1, 2, 0], [3, 1, 0]]
    assert pieces["labels"] == pieces["input_ids"]


def test_fsdp_checkpoints_in_one_place_only():
    raw = {**TRAIN, "engine": "fsdp",
           "training": {"sharding": "fsdp", "gradient_checkpointing": True}}  # fmt: skip
    found = answer(raw)
    assert "gradient_checkpointing" not in training.training_script(found)
    config = training.fsdp_config(found)
    assert config["activation_checkpointing"] is True
    assert config["reshard_after_forward"] is True
    accelerate = yaml.safe_load(training.accelerate_config(found))
    assert accelerate["num_processes"] == 4
    assert accelerate["fsdp_config"]["fsdp_version"] == 2


@pytest.mark.parametrize(
    ("sharding", "stage"), [("none", 1), ("zero1", 1), ("zero2", 2), ("zero3", 3)]
)
def test_deepspeed_stage_and_offload(sharding, stage):
    asked = {"sharding": sharding, "offload": "optimizer", "micro_batch_size": 3}
    config = training.deepspeed_config(answer({**TRAIN, "engine": "deepspeed", "training": asked}))
    zero = config["zero_optimization"]
    assert zero["stage"] == stage
    assert zero["offload_optimizer"]["device"] == "cpu"
    assert "offload_param" not in zero
    assert config["train_micro_batch_size_per_gpu"] == 3


@pytest.mark.parametrize("offload", get_args(Offload))
@pytest.mark.parametrize("sharding", get_args(Sharding))
@pytest.mark.parametrize("engine", ["transformers", "deepspeed", "fsdp"])
def test_the_files_run_what_the_memory_was_reckoned_for(engine, sharding, offload):
    """Which engine, stage and offload: one rule for both, and said where it is not as asked."""

    def asked(engine: str, sharding: str, offload: str):
        return answer({
            "model": "Qwen/Qwen3-8B", "task": "fine_tuning", "engine": engine,
            "training": {"sharding": sharding, "offload": offload, "gradient_checkpointing": True},
            "hardware": {"gpu": "h200-sxm", "gpu_count": 8},
        })  # fmt: skip

    found = asked(engine, sharding, offload)
    files = {file.name: file.text for file in training.training_files(found)}
    if "fsdp.json" in files:
        config = json.loads(files["fsdp.json"])
        ran = "fsdp"
        stage = "fsdp" if config["reshard_after_forward"] else "zero2"
        host = "parameters" if config["cpu_offload"] else "none"
    elif "deepspeed.json" in files:
        ran, zero = "deepspeed", json.loads(files["deepspeed.json"])["zero_optimization"]
        stage = f"zero{zero['stage']}" if zero["stage"] else "none"
        host = "parameters" if "offload_param" in zero else (
            "optimizer" if "offload_optimizer" in zero else "none"
        )  # fmt: skip
    else:
        ran, stage, host = ("fsdp" if engine == "fsdp" else "transformers"), "none", "none"
    assert found.memory == asked(ran, stage, host).memory
    codes = {notice.code for notice in found.assumptions}
    assert (f"run_by_{ran}" in codes) == (ran != engine)
    assert ("all_offloaded" in codes) == (host != offload)


def test_an_optimizer_on_the_host_gets_its_threads():
    """Torchrun would leave it one."""
    raw = {
        **TRAIN,
        "engine": "deepspeed",
        "training": {"sharding": "zero2", "offload": "optimizer"},
    }
    assert "OMP_NUM_THREADS=$(($(nproc) / 4))" in training.torchrun_line(answer(raw))
    assert "OMP_NUM_THREADS" not in training.torchrun_line(answer(TRAIN))


def test_torchrun_on_one_host_and_on_several():
    assert words(training.torchrun_line(answer(TRAIN))) == [
        "torchrun", "--standalone", "--nproc-per-node=4", "train.py",
    ]  # fmt: skip
    many = launch.artifacts(answer(PRETRAIN))[0].text
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
            parses(item)
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
    assert words(serving.vllm_command(found))[2] == "./model-13b"


def test_layers_in_main_memory_make_it_fit_slowly():
    tight = {
        **SERVE, "model": "Qwen/Qwen3-32B", "precision": "q4_k_m", "engine": "llama_cpp",
        "inference": {"concurrency": 1},
        "hardware": {"gpu": "rtx-4060-ti-16gb", "gpu_count": 1},
    }  # fmt: skip
    t = one(tight, "weights_offload")
    assert t.state == "available"
    assert t.after.fits is True
    assert t.after.host_gib > 4
    text = "\n".join(a.text for a in artifacts(t.applied))
    assert "--n-gpu-layers" in text
    assert "--n-gpu-layers all" not in text
    assert one(SERVE, "weights_offload").state == "not_applicable"
