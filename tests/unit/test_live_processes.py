"""Processes on a GPU: the scenario in their arguments, hidden secrets, vLLM's own figures."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from configurator.processes import (
    HIDDEN,
    describe,
    parse_vllm_metrics,
    propose_scenario,
    read_vllm_metrics,
    redact,
    serving_port,
)
from tests.unit.live_stub import GIB

SCENARIOS = {
    "python3 /venv/bin/vllm serve deepseek-ai/DeepSeek-R1-Distill-Qwen-7B -tp 2 --max_model_len=32k"
    " --gpu-memory-utilization 0.85 --max-num-seqs 64 --kv-cache-dtype fp8_e5m2 --dtype half": {
        "task": "inference",
        "engine": "vllm",
        "model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        "precision": "fp16",
        "kv_cache_precision": "fp8",
        "inference": {"max_model_len": 32000, "gpu_memory_utilization": 0.85, "max_num_seqs": 64},
        "hardware": {"tensor_parallel": 2, "gpu_count": 2},
    },
    "python -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-32B-AWQ --quantization awq"
    " --tensor-parallel-size 2 --pipeline-parallel-size 2 --data-parallel-size 2"
    " --enable-expert-parallel --max-model-len 32K --cpu-offload-gb 8 --kv-cache-dtype auto": {
        "task": "inference",
        "engine": "vllm",
        "model": "Qwen/Qwen3-32B-AWQ",
        "precision": "int4",
        "inference": {"max_model_len": 32768},
        "hardware": {
            "tensor_parallel": 2,
            "pipeline_parallel": 2,
            "data_parallel": 2,
            "gpu_count": 8,
            "expert_parallel": 4,
            "allow_cpu_offload": True,
        },
    },
    "vllm serve org/model-GPTQ -q gptq_marlin --gpu-memory-utilization 7 --max-model-len -1": {
        "task": "inference",
        "engine": "vllm",
        "model": "org/model-GPTQ",
        "precision": "auto",
        "hardware": {"gpu_count": 1},
    },
    "python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp 8 --dp 8"
    " --enable-dp-attention --ep-size 8 --context-length 16384 --max-running-requests 128"
    " --mem-fraction-static 0.8 --quantization fp8": {
        "task": "inference",
        "engine": "sglang",
        "model": "deepseek-ai/DeepSeek-V3",
        "precision": "fp8",
        "inference": {"max_model_len": 16384, "max_num_seqs": 128},
        "hardware": {
            "expert_parallel": 8,
            "tensor_parallel": 8,
            "data_parallel": 8,
            "gpu_count": 8,
        },
    },
    "trtllm-serve meta-llama/Llama-3.1-8B-Instruct --tp_size 4 --max_batch_size 32": {
        "task": "inference",
        "engine": "tensorrt_llm",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "inference": {"max_num_seqs": 32},
        "hardware": {"tensor_parallel": 4, "gpu_count": 4},
    },
    "/opt/llama.cpp/llama-server -m /models/Qwen3-30B-A3B-Q4_K_M-00001-of-00002.gguf -c 65536"
    " -np 8 -ctk q8_0 -ctv q8_0 -ngl 99 --n-cpu-moe 4": {
        "task": "inference",
        "engine": "llama_cpp",
        "model": "Qwen3-30B-A3B",
        "precision": "q4_k_m",
        "kv_cache_precision": "q8_0",
        "inference": {"max_model_len": 8192, "concurrency": 8},
        "hardware": {"allow_cpu_offload": True},
    },
    "llama-server -hf bartowski/Llama-3.2-3B-Instruct-GGUF:Q8_0 -c 4096": {
        "task": "inference",
        "engine": "llama_cpp",
        "model": "bartowski/Llama-3.2-3B-Instruct-GGUF",
        "precision": "q8_0",
        "inference": {"max_model_len": 4096},
    },
    "/usr/bin/ollama runner --model /root/.ollama/models/blobs/sha256-6a0746a1ec1a --ctx-size 8192"
    " --batch-size 512 --n-gpu-layers 33 --parallel 2 --port 43211": {
        "task": "inference",
        "engine": "llama_cpp",
        "inference": {"max_model_len": 4096, "concurrency": 2},
    },
    "/usr/bin/python /venv/bin/torchrun --nproc_per_node 4 --nnodes=2 sft.py"
    " --model_name_or_path Qwen/Qwen3-8B --per_device_train_batch_size 2"
    " --gradient_accumulation_steps 8 --max_seq_length 4096 --gradient_checkpointing True --bf16"
    " --optim adamw_torch_fused --use_peft --lora_r 16 --load_in_4bit --deepspeed ds_z3.json": {
        "task": "fine_tuning",
        "engine": "deepspeed",
        "model": "Qwen/Qwen3-8B",
        "training": {
            "micro_batch_size": 2,
            "gradient_accumulation": 8,
            "sequence_length": 4096,
            "optimizer": "adamw",
            "lora_rank": 16,
            "sharding": "zero3",
            "method": "qlora",
            "gradient_checkpointing": True,
            "mixed_precision": "amp_bf16",
        },
        "hardware": {"gpu_count": 8},
    },
    "accelerate launch --num_processes 2 --use_fsdp train.py --bf16 false --fp16 true": {
        "task": "training",
        "engine": "fsdp",
        "training": {"sharding": "fsdp", "mixed_precision": "amp_fp16"},
        "hardware": {"gpu_count": 2},
    },
    "torchrun --nproc-per-node=gpu pretrain_gpt.py --tensor-model-parallel-size 2 --seq-length 4096"
    " --micro-batch-size 1": {
        "task": "training",
        "engine": "megatron",
        "training": {"micro_batch_size": 1, "sequence_length": 4096},
        "hardware": {"tensor_parallel": 2},
    },
    "python train.py --lr 3": None,
    "/usr/lib/xorg/Xorg :0": None,
    "vim vllm": None,
    "": None,
}


@pytest.mark.parametrize(("line", "scenario"), SCENARIOS.items())
def test_propose_scenario(line: str, scenario: dict[str, Any] | None) -> None:
    assert propose_scenario(line.split()) == scenario


class TestProcesses:
    def test_ports(self) -> None:
        assert serving_port(["vllm", "serve", "a/b", "--port", "8123"]) == 8123
        assert serving_port(["vllm", "serve", "a/b"]) == 8000
        assert serving_port(["python", "-m", "sglang.launch_server", "--model", "a/b"]) == 30000
        assert serving_port(["torchrun", "x.py"]) is None
        assert serving_port([]) is None

    def test_secrets_are_hidden(self) -> None:
        line = (
            "vllm serve a/b --api-key k1 k2 --hf-token=hf_abcdefghijklmnopqrst"
            " --max-num-batched-tokens 8192 --tokenizer a/b HF_TOKEN=x http://me:pw@host/v1"
            " sk-aaaaaaaaaaaaaaaaaaaaaaaa"
        )
        assert redact(line.split()) == (
            *("vllm", "serve", "a/b", "--api-key", HIDDEN, HIDDEN, f"--hf-token={HIDDEN}"),
            *("--max-num-batched-tokens", "8192", "--tokenizer", "a/b", f"HF_TOKEN={HIDDEN}"),
            *(f"http://{HIDDEN}@host/v1", HIDDEN),
        )
        assert redact(None) is None

    def test_a_worker_is_known_by_its_parents(self, tmp_path: Path) -> None:
        """vLLM renames its workers, so only the server has the arguments."""

        def put(pid: int, parent: int, command: str) -> None:
            (tmp_path / str(pid)).mkdir()
            rest = " ".join(["0"] * 17)
            (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) b) S {parent} {rest} 77 0")
            (tmp_path / str(pid) / "cmdline").write_bytes(command.replace(" ", "\0").encode())

        put(10, 1, "vllm serve a/b -tp 2 --port 8001")
        put(11, 10, "VLLM::EngineCore")
        put(12, 11, "VLLM::Worker_TP0")
        put(20, 1, "python x.py")
        found = describe(12, 5 * GIB, tmp_path)
        assert found.command == ("VLLM::Worker_TP0",)
        assert found.scenario is not None
        assert found.scenario["hardware"] == {"tensor_parallel": 2, "gpu_count": 2}
        assert found.port == 8001
        assert describe(20, None, tmp_path).scenario is None
        assert describe(99, None, tmp_path).command is None


METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a/b"} 3.0
vllm:num_requests_running{engine="1",model_name="a/b"} 2.0
vllm:num_requests_waiting{engine="0",model_name="a } b"} 1.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
vllm:generation_tokens_total{engine="0"} 1.5e+06
vllm:prompt_tokens_total{engine="0"} NaN
python_gc_objects_collected_total{generation="0"} 1.0
"""
FIGURES = {
    "requests_running": 5.0,
    "requests_waiting": 1.0,
    "kv_cache_usage": 0.5,
    "prompt_tokens_total": None,
    "generation_tokens_total": 1.5e6,
}


class Handler(http.server.BaseHTTPRequestHandler):
    answer = "metrics"

    def do_GET(self) -> None:
        if self.answer == "slow":
            time.sleep(1.5)
        if self.answer == "redirect":
            self.send_response(302)
            self.send_header("Location", "http://example.com/")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # the slow one is not waited for
            self.wfile.write(METRICS.encode())

    def log_message(self, *args: Any) -> None:
        pass


class TestVllmMetrics:
    @pytest.mark.parametrize(
        ("answer", "figures"), [("metrics", FIGURES), ("slow", {}), ("redirect", {})]
    )
    def test_read(
        self, answer: str, figures: dict[str, float | None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Handler, "answer", answer)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            server.block_on_close = False
            threading.Thread(target=server.serve_forever, daemon=True).start()
            began = time.monotonic()
            assert read_vllm_metrics(server.server_address[1]) == figures
            assert time.monotonic() - began < 1.0
            server.shutdown()

    def test_nothing_there(self) -> None:
        assert read_vllm_metrics(1) == {}
        assert read_vllm_metrics(70000) == {}

    def test_older_name_of_the_cache_figure(self) -> None:
        figures = parse_vllm_metrics("vllm:gpu_cache_usage_perc 0.75")
        assert figures["kv_cache_usage"] == 0.75
        assert figures["requests_running"] is None
