"""Training memory with DeepSpeed: its peaks, buckets, shards and host memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator.architecture import Architecture, read_architecture
from configurator.memory.training_deepspeed import bucket_copies, reduce_pool
from configurator.memory.training_state import training_state
from configurator.scenario import Training
from configurator.units import GIB
from tests.unit.training_cases import (
    ENGINES,
    LLAMA,
    LLAMA2_7B,
    QWEN_05B,
    QWEN_3B,
    QWEN_15B,
    run,
)

BATCH: dict[str, Any] = {
    "engine": "deepspeed", "micro_batch_size": 2, "gradient_checkpointing": True,
}  # fmt: skip
BUCKET = 5e8 * 2


@pytest.mark.parametrize(
    ("arch", "ranks", "training", "peak"),
    [
        (QWEN_05B, 2, {"sharding": "zero3"}, 12.75),
        (QWEN_15B, 2, {"sharding": "zero1"}, 18.90),
        (QWEN_15B, 2, {"sharding": "zero2"}, 18.90),
        (QWEN_15B, 2, {"sharding": "zero3"}, 21.69),
        (QWEN_15B, 1, {"sharding": "zero2", "offload": "optimizer"}, 10.71),
        (QWEN_15B, 1, {"sharding": "zero3", "offload": "parameters"}, 10.19),
        (QWEN_3B, 2, {"sharding": "zero3"}, 33.44),
    ],
)
def test_deepspeed_peaks_as_measured(
    arch: Architecture, ranks: int, training: dict[str, Any], peak: float
) -> None:
    memory = run(arch, splits=(1, 1, 1, ranks), **BATCH, **training)
    assert memory.peak_allocated / GIB == pytest.approx(peak, rel=0.01)


def test_pure_bf16_keeps_a_master_copy_with_zero() -> None:
    pure, master = (
        run(splits=(1, 1, 1, 4), sharding="zero2", mixed_precision=mode, **BATCH)
        for mode in ("pure_bf16", "bf16_master")
    )
    assert pure.optimizer == master.optimizer == LLAMA.parameters * 12 / 4


def test_a_bucket_is_whole_whatever_is_trained() -> None:
    """ZeRO-3 allocates it at the start, on one rank too; ZeRO-2 two in each backward."""
    small = read_architecture({**LLAMA2_7B, "num_hidden_layers": 1, "vocab_size": 1024}, "small")
    alone = run(small, sharding="zero3", **BATCH)
    assert small.parameters < 5e8
    assert alone.detail["gradients_buckets"] == BUCKET
    assert run(small, sharding="zero2", **BATCH).detail["gradients_buckets"] == 2 * BUCKET


def test_gathered_parameters_lie_beside_their_shards() -> None:
    two = run(QWEN_15B, splits=(1, 1, 1, 2), sharding="zero3", **BATCH)
    assert two.detail["activations_gathered"] == 1e9 * 2


def test_gradients_come_after_the_losss_peak() -> None:
    """ZeRO-2 has none yet where the logits' gradients are largest."""
    memory = run(QWEN_15B, splits=(1, 1, 1, 2), sharding="zero2", **BATCH)
    d = memory.detail
    live = d["activations_saved"] + d["activations_loss_backward"]
    assert memory.peak_allocated == pytest.approx(memory.weights + memory.optimizer + live)


def test_bucket_copies_are_blocks_that_no_earlier_one_serves() -> None:
    """As snapshots of the reducing stream show: 0.922, 0.924 and 0.904 + 0.922 GiB."""
    sizes = [bucket_copies(arch, 5e8) * 2 / GIB for arch in (QWEN_05B, QWEN_15B, QWEN_3B)]
    assert sizes == pytest.approx([0.922, 0.924, 1.826], abs=0.003)


def test_a_gradient_larger_than_a_bucket_is_not_copied() -> None:
    shape = {**LLAMA2_7B, "vocab_size": 128256, "num_hidden_layers": 1}
    wide = read_architecture(shape, "wide")
    assert wide.vocab_size * wide.hidden_size > 5e8
    assert bucket_copies(wide, 5e8) == pytest.approx(wide.groups[0].layer.parameters)


def test_states_too_large_for_cached_blocks_are_reserved_beside_them() -> None:
    """Each state, gradient and square root is one tensor of the shard."""
    kind: dict[str, Any] = {"sharding": "zero2", "splits": (1, 1, 1, 2), **BATCH}
    short = run(QWEN_15B, **{**kind, "sequence_length": 1024})
    shard = QWEN_15B.parameters / 2 * 4
    states = QWEN_15B.parameters * 2 + shard + 4 * shard
    assert short.reserved > states + short.detail["activations_loss_backward"]
    small = run(QWEN_05B, **{**kind, "sequence_length": 4096})
    assert small.reserved < small.peak_allocated * 1.35


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([QWEN_15B, QWEN_3B]),
    st.sampled_from(["zero1", "zero2", "zero3"]),
    st.sampled_from([1, 2, 8]),
    st.integers(1, 16384),
    st.integers(1, 512),
    st.booleans(),
)
def test_more_tokens_never_take_less_with_zero(
    arch: Architecture, sharding: str, ranks: int, tokens: int, more: int, replayed: bool
) -> None:
    small, large = (
        run(arch, engine="deepspeed", splits=(1, 1, 1, ranks), sharding=sharding,
            sequence_length=n, gradient_checkpointing=replayed)
        for n in (tokens, tokens + more)
    )  # fmt: skip
    assert large.peak_allocated >= small.peak_allocated * (1 - 1e-12)
    assert large.reserved >= small.reserved * (1 - 1e-12)


def test_norms_on_the_way_to_the_host_take_eight_bytes() -> None:
    """Of the largest gradient, in a pool of its own; ZeRO-3's of its shard."""
    embedding, inner = QWEN_15B.vocab_size * QWEN_15B.hidden_size, 8960 * 1536
    state = reduce_state(sharding="zero2", offload="optimizer")
    assert state == pytest.approx((embedding + inner) * 8)
    copies = bucket_copies(QWEN_15B, 5e8) * 2
    halves = reduce_state(ranks=2, sharding="zero3", offload="parameters")
    assert halves == pytest.approx(copies + (embedding + inner) / 2 * 8)


def reduce_state(ranks: int = 1, **training: Any) -> float:
    kind = Training(**training)
    state = training_state(QWEN_15B, "bf16", kind, "deepspeed", 1, 1, 1, ranks)
    return float(reduce_pool(QWEN_15B, kind, state, ranks))


def test_a_single_rank_of_deepspeed_starts_nccl() -> None:
    alone, plain = (run(QWEN_15B, engine=e).detail["framework_context"] for e in ENGINES[1::-1])
    assert alone - plain == 516 * 2**20


@pytest.mark.parametrize(
    ("training", "resident"),
    [({"sharding": "zero2", "offload": "optimizer"}, 34.1),
     ({"sharding": "zero3", "offload": "parameters"}, 39.5)],
)  # fmt: skip
def test_host_memory_is_what_the_process_held_less_its_libraries(
    training: dict[str, Any], resident: float
) -> None:
    host = run(QWEN_15B, **BATCH, **training).host / GIB
    assert resident - 7 < host < resident - 1


@pytest.mark.parametrize(
    ("training", "engine"),
    [({"sharding": "zero2"}, "deepspeed"), ({"offload": "optimizer"}, "deepspeed"),
     ({"sharding": "fsdp"}, "fsdp")],
)  # fmt: skip
def test_the_trainer_takes_what_its_helper_takes(training: dict[str, Any], engine: str) -> None:
    """The generated files are the same, so the figures are."""
    kind = {"splits": (1, 1, 1, 2), "mixed_precision": "pure_bf16", **training}
    assert run(engine="transformers", **kind) == run(engine=engine, **kind)
