"""Generated commands do what the estimate counts, or say what is missing, or are not there."""

from __future__ import annotations

import re
import subprocess

import pytest

from configurator.estimate import estimate
from configurator.export.launch import artifacts
from configurator.scenario import parse_scenario
from tests.unit.technique_cases import reads_alike

LOAD = {"concurrency": 32, "input_tokens": 2048, "output_tokens": 512}


def answer(model, engine, gpu, count, precision="bf16", load=(), training=None, **split):
    raw = {
        "model": model, "engine": engine, "precision": precision,
        "hardware": {"gpu": gpu, "gpu_count": count, **split},
    }  # fmt: skip
    if training is None:
        raw["inference"] = {**LOAD, **dict(load)}
    else:
        raw |= {"task": "training", **training}
    return estimate(parse_scenario(raw))


def files(*asked, **more):
    found = answer(*asked, **more)
    english = artifacts(found)
    reads_alike(english, artifacts(found, "zh"))
    return {item.name: item.text for item in english}


def option(text, name):
    found = re.search(rf"{re.escape(name)} (\S+)", text)
    return found[1].strip("'") if found else None


def runs(text, tmp_path):
    path = tmp_path / "run.sh"
    path.write_text(text, encoding="utf-8")
    subprocess.run(["bash", "-n", str(path)], check=True)


# ---- several hosts

QWEN, R1 = "Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-R1"


def test_sglang_joins_the_hosts_of_one_copy(tmp_path):
    text = files(R1, "sglang", "h200-sxm", 16, "fp8", tensor_parallel=8, pipeline_parallel=2)
    run = text["serve.sh"]
    assert option(run, "--nnodes") == "2"
    assert '--node-rank "$NODE_RANK"' in run
    assert '--dist-init-addr "$MASTER_ADDR:5000"' in run
    runs(run, tmp_path)


def test_tensorrt_llm_starts_one_process_a_card_over_hosts(tmp_path):
    run = files(R1, "tensorrt_llm", "h200-sxm", 16, "fp8", tensor_parallel=8, pipeline_parallel=2)
    assert (
        "mpirun -np 16 -N 8 --hostfile hosts.txt trtllm-llmapi-launch trtllm-serve"
        in (run["serve.sh"])
    )
    runs(run["serve.sh"], tmp_path)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt_llm", "llama_cpp", "transformers"])
def test_no_host_is_told_to_run_more_copies_than_it_has_cards(engine, tmp_path):
    found = files(QWEN, engine, "h100-sxm", 16, data_parallel=16, pipeline_parallel=1)
    run = found["generate.sh" if engine == "transformers" else "serve.sh"]
    assert "On each of 2 hosts: 8 of the 16 copies" in run
    copies = option(run, "--data-parallel-size") or option(run, "--dp-size")
    assert copies == "8" or "seq 0 7" in run
    runs(run, tmp_path)


def test_vllm_copies_of_a_mixture_are_servers_of_their_own(tmp_path):
    """``--data-parallel-size`` would spread the experts over all of them."""
    asked = ("Qwen/Qwen3-30B-A3B", "vllm", "h100-sxm", 4)
    plain = files(*asked, tensor_parallel=2, data_parallel=2)["serve.sh"]
    assert "seq 0 1" in plain
    assert option(plain, "--data-parallel-size") is None
    runs(plain, tmp_path)
    spread = files(*asked, tensor_parallel=1, data_parallel=4, expert_parallel=4)["serve.sh"]
    assert option(spread, "--data-parallel-size") == "4"


def test_processes_are_as_many_as_cards():
    run = files(QWEN, "fsdp", "h100-sxm", 9, training={"training": {"sharding": "fsdp"}})
    assert "--nnodes=3 --nproc-per-node=3" in run["train.sh"]
    assert "num_processes: 9" in run["accelerate.yaml"]
    assert "main_process_port" in run["accelerate.yaml"]


# ---- what is loaded


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize(
    ("model", "precision"), [("openai/gpt-oss-20b", "fp8"), (R1, "nf4"), (R1, "int4"), (R1, "bf16")]
)
def test_a_quantised_checkpoint_is_not_quantised_again(engine, model, precision):
    """Engines refuse a method that differs from the checkpoint's, LLM Compressor such a source."""
    found = files(model, engine, "h200-sxm", 8, precision)
    assert list(found) == ["serve.sh"]
    assert option(found["serve.sh"], "--quantization") is None
    assert f"take or make one in {precision}" in found["serve.sh"]


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt_llm"])
@pytest.mark.parametrize("precision", ["fp8", "int8", "int4", "nvfp4", "mxfp4"])
def test_a_script_that_is_named_is_there(engine, precision):
    found = files(QWEN, engine, "b200-sxm", 1, precision)
    assert ("quantize.py" in found["serve.sh"]) == ("quantize.py" in found)


def test_what_each_engine_makes_while_it_loads():
    assert "FineGrainedFP8Config()" in files(QWEN, "transformers", "h100-sxm", 1, "fp8")[
        "generate.py"
    ]  # fmt: skip
    text = files(QWEN, "sglang", "h100-sxm", 1, "nf4")["serve.sh"]
    assert option(text, "--quantization") == option(text, "--load-format") == "bitsandbytes"
    text = files(QWEN, "llama_cpp", "h100-sxm", 1, "int4")["serve.sh"]
    assert "q4_k_m is the nearest" in text
    assert option(text, "--model").endswith("-q4_k_m.gguf")


def test_mxfp4_of_a_mixture_stays_what_it_is():
    own = files("openai/gpt-oss-20b", "llama_cpp", "h100-sxm", 1, "mxfp4")["serve.sh"]
    assert option(own, "--model").endswith("-bf16.gguf")
    assert "nearest" not in own
    made = files("Qwen/Qwen3-30B-A3B", "llama_cpp", "h100-sxm", 1, "mxfp4")["serve.sh"]
    assert "MXFP4_MOE" in made


def test_qlora_in_eight_bits_loads_eight_bits():
    asked = {"task": "fine_tuning", "training": {"method": "qlora"}}
    text = files(QWEN, "transformers", "rtx-4090", 1, "int8", training=asked)["train.py"]
    assert "load_in_8bit=True" in text
    assert "load_in_4bit" not in text


def test_eight_bits_are_checkpointed_by_replaying_without_a_graph():
    """Without reentrant checkpointing 41.2 GiB stayed live where 22.1 do."""
    asked = {"task": "fine_tuning", "training": {"method": "qlora", "gradient_checkpointing": True}}
    for precision, again in (("int8", True), ("nf4", False)):
        found = files(QWEN, "transformers", "h200-sxm", 1, precision, training=asked)
        assert f'"use_reentrant": {again}' in found["train.py"]


def test_models_that_see_have_a_class_of_their_own():
    seeing = files("Qwen/Qwen3-VL-8B-Instruct", "transformers", "h100-sxm", 1)["generate.py"]
    assert "AutoModelForImageTextToText" in seeing
    assert "AutoModelForCausalLM" in files(QWEN, "transformers", "h100-sxm", 1)["generate.py"]


def test_the_library_chooses_its_attention():
    """gpt-oss and Gemma 2 know no "sdpa"."""
    for found in (
        files("openai/gpt-oss-20b", "transformers", "h100-sxm", 1, "mxfp4")["generate.py"],
        files(QWEN, "transformers", "h100-sxm", 1, training={"training": {}})["train.py"],
    ):
        assert "attn_implementation" not in found


@pytest.mark.parametrize(("requests", "drafts"), [(1, True), (8, False)])
def test_prompt_lookup_takes_one_prompt(requests, drafts):
    load = {"concurrency": requests, "speculative_tokens": 3}
    text = files(QWEN, "transformers", "h100-sxm", 1, load=load)["generate.py"]
    assert ("prompt_lookup_num_tokens" in text) == drafts


@pytest.mark.parametrize(("prompt", "chunked"), [(2048, False), (30_000, True)])
def test_tensorrt_llm_takes_prompts_longer_than_a_step(prompt, chunked):
    found = files(QWEN, "tensorrt_llm", "h100-sxm", 1, load={"input_tokens": prompt})
    assert ("enable_chunked_prefill" in found.get("config.yaml", "")) == chunked


def test_sglang_limits_hold_for_each_rank_of_a_group():
    load = {"max_num_batched_tokens": 2048, "max_num_seqs": 16}
    text = files(R1, "sglang", "h200-sxm", 8, "fp8", load, tensor_parallel=1, data_parallel=8,
                 expert_parallel=8)["serve.sh"]  # fmt: skip
    assert option(text, "--chunked-prefill-size") == str(8 * 2048)
    assert option(text, "--max-running-requests") == str(8 * 16)


def test_sglang_drafting_does_not_stop_at_its_48_requests():
    load = {"concurrency": 256, "speculative_tokens": 1}
    text = files(R1, "sglang", "h200-sxm", 8, "fp8", load)["serve.sh"]
    assert option(text, "--max-running-requests") == "256"


# ---- what does not run


@pytest.mark.parametrize(
    ("engine", "gpu", "split", "code"),
    [
        ("vllm", "apple-m3-ultra", {}, "engine_unsupported"),
        ("tensorrt_llm", "mi300x", {}, "engine_unsupported"),
        ("tensorrt_llm", "v100-sxm2-32", {}, "engine_unsupported"),
        ("vllm", "v100-sxm2-32", {}, "engine_unsupported"),
        ("transformers", "v100-sxm2-32", {}, "precision_not_run"),
        ("transformers", "h100-sxm", {"tensor_parallel": 2}, "no_tensor_parallel"),
        ("llama_cpp", "h100-sxm", {"tensor_parallel": 2}, "no_tensor_parallel"),
    ],
)
def test_what_an_engine_does_not_run_is_said_and_has_no_code(engine, gpu, split, code):
    found = answer(QWEN, engine, gpu, 2 if split else 1, **split)
    assert code in {notice.code for notice in found.warnings if notice.severity == "error"}
    assert artifacts(found) == ()


@pytest.mark.parametrize(
    ("engine", "precision", "gpu"),
    [("vllm", "nvfp4", "mi300x"), ("transformers", "nf4", "apple-m2-ultra"),
     ("sglang", "q4_k_m", "h100-sxm"), ("llama_cpp", "nvfp4", "b200-sxm"),
     ("tensorrt_llm", "fp8", "a100-sxm4-80"), ("tensorrt_llm", "nvfp4", "h200-sxm"),
     ("vllm", "fp8", "pro-w7900"), ("vllm", "fp8", "ascend-910b"), ("vllm", "fp8", "mi210"),
     ("llama_cpp", "fp8", "h100-sxm"), ("llama_cpp", "q4_k_m", "ascend-910b")],
)  # fmt: skip
def test_a_precision_is_planned_only_where_it_runs(engine, precision, gpu):
    codes = {notice.code for notice in answer(QWEN, engine, gpu, 1, precision).warnings}
    assert "precision_not_run" in codes


@pytest.mark.parametrize(
    ("gpu", "runs"), [("a100-sxm4-80", False), ("rtx-pro-6000-blackwell-server", True)]
)
def test_sparse_attention_needs_a_card_with_kernels(gpu, runs):
    found = answer("deepseek-ai/DeepSeek-V4-Flash", "vllm", gpu, 8).cannot_run
    assert (found is None) if runs else (found and found.code == "attention_not_run")


@pytest.mark.parametrize(
    ("card", "twin"), [("a100-sxm4-80", "a800-sxm4-80"), ("h100-sxm", "h800-sxm")]
)
def test_the_same_chip_is_as_fast(card, twin):
    # vLLM's own steps go by the name: an A100's are smaller than an A800's.
    load = {"max_num_batched_tokens": 8192}
    one, other = (answer(QWEN, "vllm", gpu, 1, load=load).performance for gpu in (card, twin))
    assert one.output_tokens_per_s == other.output_tokens_per_s


def test_what_nobody_would_wait_for_is_said():
    load = {"concurrency": 64, "input_tokens": 32768, "output_tokens": 512}
    slow = answer(QWEN, "vllm", "rtx-3060-12gb", 8, load=load)
    assert {"slow_pace", "slow_start"} & {notice.code for notice in slow.warnings}
    quick = answer(QWEN, "vllm", "h100-sxm", 1)
    assert not {"slow_pace", "slow_start"} & {notice.code for notice in quick.warnings}


@pytest.mark.parametrize(
    ("engine", "gpu", "said"),
    [("vllm", "mi300x", True), ("sglang", "mi300x", False), ("vllm", "rtx-4090", False),
     ("vllm", {"memory_gib": 80, "bandwidth_gbps": 2000, "bf16_tflops": 300}, False)],
)  # fmt: skip
def test_a_maker_whose_cards_were_never_measured_is_named(engine, gpu, said):
    asked = {"model": "Qwen/Qwen3-8B", "engine": engine, "hardware": {"gpu": gpu, "gpu_count": 1}}
    notices = [n for n in estimate(parse_scenario(asked)).warnings if n.code == "vendor_unmeasured"]
    assert bool(notices) == said
    for notice in notices:
        assert "AMD" in notice.text("en")


def test_training_engines_split_as_they_can():
    asked = {"task": "fine_tuning", "training": {"method": "full"}}
    found = answer(QWEN, "transformers", "h100-sxm", 8, training=asked, tensor_parallel=2,
                   pipeline_parallel=2)  # fmt: skip
    codes = {notice.code for notice in found.warnings}
    assert {"no_tensor_parallel", "no_pipeline_parallel"} <= codes


# ---- Megatron


SPLITS = ("tensor_parallel", "pipeline_parallel", "expert_parallel")


def megatron(model, count=8, **training):
    more = {k: training.pop(k) for k in SPLITS if k in training}
    asked = {"training": training}
    return files(model, "megatron", "h100-sxm", count, training=asked, **more)["train.sh"]


def test_megatron_describes_the_model():
    text = megatron("Qwen/Qwen3-32B", tensor_parallel=8, mixed_precision="bf16_master")
    assert option(text, "--kv-channels") == "128"
    assert "--qk-layernorm" in text
    assert "export CUDA_DEVICE_MAX_CONNECTIONS=1" in text
    assert "--add-qkv-bias" in megatron("Qwen/Qwen2.5-7B")
    uneven = megatron("Qwen/Qwen3-32B", pipeline_parallel=6, count=6)  # 64 layers: 5 of 11, 9 left
    assert "--decoder-last-pipeline-num-layers 9" in " ".join(uneven.split())
    assert "--decoder-last-pipeline" not in megatron("Qwen/Qwen3-32B", pipeline_parallel=8)
    routed = megatron("Qwen/Qwen3-30B-A3B", expert_parallel=8)
    assert option(routed, "--moe-ffn-hidden-size") == "768"
    assert option(routed, "--moe-router-topk") == "8"


def test_megatron_says_what_it_does_not():
    assert "Megatron Bridge" in megatron(R1, 64, sharding="zero1")
    assert "--num-layers" not in megatron(R1, 64, sharding="zero1")
    assert "no adapters" in megatron(QWEN, method="lora")


def test_megatron_optimizer_and_format():
    text = megatron(QWEN, optimizer="adamw_8bit", mixed_precision="amp_fp16")
    assert "--use-distributed-optimizer" in text
    assert "--fp16" in text
    assert "--bf16" not in text
    assert option(megatron(QWEN, optimizer="sgd"), "--optimizer") == "sgd"
