"""Check the live view on a real NVIDIA card: cost of a snapshot, and a job of known size.

Starts a transformers model with random weights in a process of its own, predicts its device memory
and compares that with what NVML says; then stops the job while a recording runs and checks that the
recording lost nothing. Needs torch and transformers. Run: python benchmarks/live_check.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from configurator.catalog import match_gpu
from configurator.estimate import estimate
from configurator.live import Recorder, shared_probe, snapshot_to_dict
from configurator.scenario import parse_scenario

CONFIG = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "max_position_embeddings": 32768, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
BATCH, PROMPT, STEPS = 4, 4096, 16
JOB = f"""
import sys, time, torch
from transformers import AutoModelForCausalLM, LlamaConfig
config = LlamaConfig(**{CONFIG!r})
torch.set_default_dtype(torch.bfloat16)
with torch.device("cuda"):
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
ids = torch.randint(0, 30000, ({BATCH}, {PROMPT}), device="cuda")
with torch.no_grad():
    out = model(ids, use_cache=True, logits_to_keep=1)
    cache, token = out.past_key_values, out.logits[:, -1:].argmax(-1)
    for _ in range({STEPS}):
        out = model(token, past_key_values=cache, use_cache=True)
        token = out.logits[:, -1:].argmax(-1)
print("ready", torch.cuda.max_memory_allocated(), torch.cuda.memory_reserved(), flush=True)
time.sleep(600)
"""


def main():
    probe = shared_probe(match_gpu)
    probe.snapshot(0)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        probe.snapshot(0)
        times.append(time.perf_counter() - start)
    print(f"snapshot: median {1e3 * statistics.median(times):.3f} ms, "
          f"p95 {1e3 * statistics.quantiles(times, n=20)[-1]:.3f} ms")  # fmt: skip
    first = snapshot_to_dict(probe.snapshot(0))
    print(json.dumps(first))
    card = first["gpus"][0]
    scenario = parse_scenario(
        {
            "model": {"config": CONFIG, "name": "llama 8B"},
            "precision": "bf16",
            "engine": "transformers",
            "inference": {"concurrency": BATCH, "input_tokens": PROMPT, "output_tokens": STEPS + 1},
            "hardware": {"gpu": card["catalog_id"]},
        }
    )
    memory = estimate(scenario).memory
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0"}
    job = subprocess.Popen(
        [sys.executable, "-c", JOB], stdout=subprocess.PIPE, text=True, env=environment
    )
    line = job.stdout.readline().split()
    time.sleep(1)
    beside = snapshot_to_dict(probe.snapshot(0))["gpus"][0]
    used = beside["memory_used_gib"]
    print(json.dumps({"processes": beside["processes"]}))
    print(f"job: predicted {memory.total_gib:.2f} GiB ({memory.total_low_gib:.2f} to "
          f"{memory.total_high_gib:.2f}), NVML {used:.2f} GiB, "
          f"{100 * (memory.total_gib / used - 1):+.1f} %; peak tensors predicted "
          f"{memory.peak_allocated_gib:.3f}, torch {int(line[1]) / 2**30:.3f} GiB")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "watch.csv"
        recorder = Recorder(probe, path, interval_s=0.5)
        recorder.start()
        time.sleep(2)
        job.kill()
        job.wait()
        time.sleep(3)
        recorder.stop()
        rows = path.read_text().splitlines()
        print(f"recording: {recorder.samples} samples, {len(rows) - 1} rows on disk, "
              f"error {recorder.error}")  # fmt: skip
        print("\n".join([rows[0], rows[1], rows[-1]]))


if __name__ == "__main__":
    main()
