"""Training memory: exact persistent bytes, what must never grow, arrays as scalars."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator.architecture import Architecture, read_architecture
from configurator.errors import InputError
from configurator.estimate import estimate
from configurator.memory.activations import (
    Profile,
    adapter_parameters,
    layer_activations,
    training_profile,
)
from configurator.memory.training import PHASES, TrainingMemory, training_memory
from configurator.memory.training_deepspeed import bucket_copies, reduce_pool
from configurator.memory.training_state import block_slack, training_state
from configurator.scenario import Method, MixedPrecision, Optimizer, Training, parse_scenario
from configurator.units import GIB
from tests.unit.model_configs import QWEN3_30B

LLAMA2_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "vocab_size": 32000, "torch_dtype": "bfloat16",
}  # fmt: skip
QWEN3_MOE = {
    "model_type": "qwen3_moe", "hidden_size": 512, "intermediate_size": 1280,
    "moe_intermediate_size": 384, "num_experts": 8, "num_experts_per_tok": 2,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "num_hidden_layers": 4,
    "vocab_size": 1024, "torch_dtype": "bfloat16",
}  # fmt: skip
DEEPSEEK = {
    "model_type": "deepseek_v3", "hidden_size": 1024, "intermediate_size": 2048,
    "moe_intermediate_size": 256, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "n_shared_experts": 1, "num_attention_heads": 8, "num_key_value_heads": 8,
    "kv_lora_rank": 128, "q_lora_rank": 256, "qk_rope_head_dim": 32, "qk_nope_head_dim": 64,
    "v_head_dim": 64, "first_k_dense_replace": 1, "num_hidden_layers": 4, "vocab_size": 2048,
    "torch_dtype": "bfloat16",
}  # fmt: skip
FALCON = {
    "model_type": "falcon", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
    "vocab_size": 2048, "multi_query": True, "parallel_attn": True, "torch_dtype": "bfloat16",
}  # fmt: skip
LLAMA = read_architecture(LLAMA2_7B, "llama")
MODELS = [
    LLAMA, read_architecture(QWEN3_MOE, "moe"), read_architecture(DEEPSEEK, "mla"),
    read_architecture(FALCON, "falcon"),
    read_architecture({**LLAMA2_7B, "num_key_value_heads": 4, "tie_word_embeddings": True,
                       "vocab_size": 128256}, "gqa"),
]  # fmt: skip
ENGINES = ("transformers", "deepspeed", "fsdp", "megatron")


def run(
    arch: Architecture = LLAMA,
    engine: str = "transformers",
    precision: str = "bf16",
    splits: tuple[Any, ...] = (),
    device_bytes: Any = None,
    **training: Any,
) -> TrainingMemory:
    tensor, pipeline, expert, data = (*splits, 1, 1, 1, 1)[:4]
    return training_memory(
        arch, precision, Training(**training), engine, tensor, pipeline, expert, data, device_bytes
    )


# ------------------------------------------------------------------------- persistent bytes


@pytest.mark.parametrize(
    ("mode", "engine", "weight", "gradient", "optimizer"),
    [
        ("pure_bf16", "transformers", 2, 2, 4),
        ("fp32", "transformers", 4, 4, 8),
        ("amp_bf16", "transformers", 4, 4, 8),
        ("amp_fp16", "transformers", 4, 4, 8),
        ("bf16_master", "transformers", 2, 2, 12),
        ("amp_bf16", "deepspeed", 2, 2, 12),
        ("bf16_master", "megatron", 2, 4, 12),
        ("amp_bf16", "fsdp", 4, 4, 8),
    ],
)
def test_bytes_a_parameter(
    mode: str, engine: str, weight: int, gradient: int, optimizer: int
) -> None:
    memory = run(engine=engine, mixed_precision=mode)
    parameters = LLAMA.parameters
    slack = block_slack(LLAMA, weight) if engine in ("transformers", "fsdp") else 0
    assert memory.weights == parameters * weight + slack
    assert memory.gradients == parameters * gradient
    assert memory.optimizer == parameters * optimizer


def test_adapters_are_32_bit_whatever_the_base() -> None:
    memory = run(method="lora", mixed_precision="pure_bf16")
    adapters = 32 * 16 * (4 * (4096 + 4096) + 3 * (4096 + 11008))
    assert adapter_parameters(LLAMA, 16, "all_linear") == adapters
    assert memory.detail["weights_adapters"] == adapters * 4
    assert memory.weights == LLAMA.parameters * 2 + block_slack(LLAMA, 2) + adapters * 4
    assert (memory.gradients, memory.optimizer) == (adapters * 4, adapters * 8)


def test_smaller_optimizer_states() -> None:
    parameters, embedding = LLAMA.parameters, 32000 * 4096
    eight = run(mixed_precision="fp32", optimizer="adamw_8bit")
    assert eight.optimizer == pytest.approx(
        (parameters - embedding) * 2 * (1 + 4 / 256) + embedding * 8
    )
    assert run(mixed_precision="fp32", optimizer="sgd").optimizer == 0
    muon = run(mixed_precision="fp32", optimizer="muon").optimizer
    assert parameters * 4 < muon < parameters * 5
    assert run(mixed_precision="fp32", optimizer="adafactor").optimizer < parameters * 0.01


# ------------------------------------------------------------------------- measured anchors


def test_foreach_adamw_peaks_at_five_copies() -> None:
    """Measured on an H100: 62.756 GiB for Llama-2-7B in pure bf16, batch 1 and 8 alike."""
    for batch in (1, 8):
        memory = run(
            mixed_precision="pure_bf16", micro_batch_size=batch, gradient_checkpointing=True
        )
        assert memory.phase == "optimizer_step"
        assert memory.peak_allocated / GIB == pytest.approx(62.7564, rel=1e-3)


def test_saved_bytes_of_a_layer_are_those_pytorch_keeps() -> None:
    """Recorded with a dispatch mode on transformers 5.24: h 512, MLP 1280, q 640, kv 128."""
    arch = read_architecture(
        {
            "model_type": "mistral", "hidden_size": 512, "intermediate_size": 1280,
            "num_attention_heads": 10, "num_key_value_heads": 2, "head_dim": 64,
            "num_hidden_layers": 3, "vocab_size": 1024,
        },
        "recorded",
    )  # fmt: skip
    layer = arch.groups[0].layer

    def saved(style: Any, compute: int, residual: int, frozen: bool, targets: Any) -> float:
        profile = Profile(style, compute, residual, compute, frozen)
        return layer_activations(layer, 512, profile, targets, 16).saved.total

    assert saved("eager", 2, 2, False, "all_linear") == 21552
    assert saved("eager", 2, 2, True, "all_linear") == 33264
    assert saved("eager", 2, 2, True, ("q_proj", "v_proj")) == 19120
    assert saved("eager", 4, 4, False, "all_linear") == 38960
    weight_casts = 2 * (512 * 1280 * 3 + 512 * 640 * 2 + 512 * 128 * 2) / 512
    assert saved("autocast", 2, 4, False, "all_linear") == 37424 - weight_casts


# ------------------------------------------------------------------------- what must hold


TRAININGS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(get_args(Method)),
        "mixed_precision": st.sampled_from(get_args(MixedPrecision)),
        "optimizer": st.sampled_from(get_args(Optimizer)),
        "gradient_checkpointing": st.booleans(),
        "micro_batch_size": st.integers(1, 64),
        "sequence_length": st.integers(1, 16384),
        "gradient_accumulation": st.integers(1, 8),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from(ENGINES), TRAININGS, st.data())
def test_more_tokens_never_take_less(
    arch: Architecture, engine: str, training: dict[str, Any], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(("micro_batch_size", "sequence_length")))
    more = {**training, key: training[key] + data.draw(st.integers(1, 512))}
    small, large = run(arch, engine, **training), run(arch, engine, **more)
    for name in ("activations", "peak_allocated", "reserved", "total"):
        assert getattr(large, name) >= getattr(small, name) * (1 - 1e-12), name


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from(ENGINES), TRAININGS)
def test_checkpointing_never_peaks_higher(
    arch: Architecture, engine: str, training: dict[str, Any]
) -> None:
    if training["method"] == "qlora":  # it goes with the 32-bit upcast of the base's ends
        training["method"] = "lora"
    whole = run(arch, engine, **{**training, "gradient_checkpointing": False})
    replayed = run(arch, engine, **{**training, "gradient_checkpointing": True})
    assert replayed.peak_allocated <= whole.peak_allocated * (1 + 1e-12)


@settings(max_examples=40, deadline=None)
@given(TRAININGS, st.sampled_from([2, 4, 8, 64]))
def test_a_higher_zero_stage_never_takes_more(training: dict[str, Any], data: int) -> None:
    peaks = [
        run(engine="deepspeed", splits=(1, 1, 1, data), sharding=stage, **training).peak_allocated
        for stage in ("zero1", "zero2", "zero3")
    ]
    assert peaks[0] >= peaks[1]
    # On few ranks ZeRO-3's gathered parameters and lasting buffers outweigh the shards it saves:
    # two H200 held 21.7 GiB with ZeRO-3 and 18.9 with ZeRO-2 for a model of 1.5 billion.
    if data > 2:
        assert peaks[1] >= peaks[2]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.sampled_from(ENGINES),
    TRAININGS,
    st.sampled_from(["none", "ddp", "zero1", "zero2", "zero3", "fsdp"]),
    st.sampled_from(["none", "optimizer", "parameters"]),
    st.sampled_from([None, 24 * GIB]),
)
def test_parts_sum(
    arch: Architecture, engine: str, training: dict[str, Any], sharding: str, offload: str,
    device: float | None,
) -> None:  # fmt: skip
    m = run(
        arch, engine, splits=(2, 1, 1, 4), device_bytes=device, sharding=sharding,
        offload=offload, **training,
    )  # fmt: skip
    parts = m.weights + m.gradients + m.optimizer + m.activations
    assert parts == pytest.approx(m.peak_allocated)
    assert m.peak_allocated + m.framework == pytest.approx(m.total)
    assert m.peak_allocated <= m.reserved <= m.total
    assert min(m.weights, m.gradients, m.optimizer, m.activations, m.framework, m.host) >= 0
    assert m.phase in PHASES


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from(ENGINES), TRAININGS,
       st.sampled_from(["none", "ddp", "zero1", "zero2", "zero3", "fsdp"]))  # fmt: skip
def test_arrays_give_what_scalars_give(
    arch: Architecture, engine: str, training: dict[str, Any], sharding: str
) -> None:
    splits = np.array(list(itertools.product((1, 2, 4), (1, 2), (1, 4), (1, 8))))
    room = np.full(len(splits), 80.0 * GIB)
    many = run(
        arch, engine, splits=tuple(splits.T), device_bytes=room, sharding=sharding, **training
    )
    names = ("weights", "gradients", "optimizer", "activations", "peak_allocated", "reserved",
             "framework", "total", "host")  # fmt: skip
    for i in (0, 5, 11, len(splits) - 1):
        one = run(
            arch, engine, splits=tuple(int(x) for x in splits[i]), device_bytes=80.0 * GIB,
            sharding=sharding, **training,
        )  # fmt: skip
        for name in names:
            assert getattr(many, name)[i] == pytest.approx(getattr(one, name)), name
        assert PHASES[many.phase[i]] == one.phase


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
@pytest.mark.parametrize("mode", get_args(MixedPrecision))
@pytest.mark.parametrize("method", get_args(Method))
def test_every_combination_works(optimizer: str, mode: str, method: str) -> None:
    for arch, engine in itertools.product(MODELS, ENGINES):
        memory = run(
            arch, engine, precision="nf4" if method == "qlora" else "bf16", method=method,
            mixed_precision=mode, optimizer=optimizer,
        )  # fmt: skip
        assert 0 < memory.peak_allocated < memory.total < float("inf")


# ------------------------------------------------------------------------- splits, host, card


def test_sharding_divides_what_it_says() -> None:
    def of(stage: str, micro_batches: int = 1) -> TrainingMemory:
        return run(
            engine="deepspeed", splits=(1, 1, 1, 8), sharding=stage, mixed_precision="bf16_master",
            gradient_accumulation=micro_batches,
        )  # fmt: skip

    parameters = LLAMA.parameters
    assert of("zero1").optimizer == parameters * 12 / 8
    # ZeRO-1 reduces at the last micro-batch; until then gradients are whole.
    assert (of("zero1", 2).gradients, of("zero1").gradients) == (parameters * 2, parameters / 4)
    assert of("zero2", 2).gradients == of("zero2").gradients == parameters * 2 / 8
    assert (of("zero2").weights, of("zero3").weights) == (parameters * 2, parameters * 2 / 8)


def test_offload_moves_bytes_to_the_host() -> None:
    kind: dict[str, Any] = {
        "engine": "deepspeed", "splits": (1, 1, 1, 4), "sharding": "zero2",
        "mixed_precision": "bf16_master",
    }  # fmt: skip
    stays, moved = run(**kind), run(offload="optimizer", **kind)
    assert moved.optimizer == 0
    # Two states; pinned, in powers of two: master copy, 32-bit gradients, 16-bit parameters.
    assert moved.host == LLAMA.parameters * 8 / 4 + 2 * 2**33 + 2**32
    assert moved.peak_allocated < stays.peak_allocated
    bare = run(engine="fsdp", splits=(1, 1, 1, 4), sharding="fsdp", offload="parameters")
    assert bare.weights == bare.optimizer == bare.gradients == 0
    assert bare.activations > 0


def test_fsdp_offloads_all_or_nothing() -> None:
    """One H200 held 7.83 GiB live and 11.44 reserved, whichever of the two was asked for."""
    kind: dict[str, Any] = {
        "engine": "fsdp", "sharding": "fsdp", "micro_batch_size": 2, "gradient_checkpointing": True,
    }  # fmt: skip
    states, whole = (run(QWEN_15B, offload=what, **kind) for what in ("optimizer", "parameters"))
    assert states == whole
    assert whole.peak_allocated / GIB == pytest.approx(7.83, rel=0.03)
    assert whole.reserved / GIB == pytest.approx(11.44, rel=0.05)


def test_tensor_parallel_splits_activations() -> None:
    one = run(engine="megatron", mixed_precision="bf16_master", micro_batch_size=4)
    eight = run(engine="megatron", mixed_precision="bf16_master", micro_batch_size=4, splits=(8,))
    assert eight.activations == pytest.approx(one.activations / 8, rel=0.05)


def test_pipeline_keeps_micro_batches_in_flight() -> None:
    def of(accumulation: int) -> float:
        memory = run(engine="megatron", splits=(1, 4), micro_batch_size=8, sequence_length=4096,
                     mixed_precision="bf16_master", gradient_accumulation=accumulation)  # fmt: skip
        return float(memory.activations)

    assert of(1) < of(4) == of(16)


def test_reserved_is_capped_by_the_card() -> None:
    free = run(mixed_precision="pure_bf16", micro_batch_size=8, gradient_checkpointing=True)
    room = free.peak_allocated + 2 * GIB
    tight = run(mixed_precision="pure_bf16", micro_batch_size=8, gradient_checkpointing=True,
                device_bytes=room)  # fmt: skip
    assert free.total > room
    assert tight.total == room
    assert run(device_bytes=24 * GIB, mixed_precision="fp32").total > 24 * GIB


def test_paged_states_leave_the_card_when_it_is_full() -> None:
    kind: dict[str, Any] = {
        "mixed_precision": "fp32", "sequence_length": 512, "gradient_checkpointing": True,
    }  # fmt: skip
    free = run(optimizer="paged_adamw_8bit", **kind)
    room = free.total - 4 * GIB
    paged = run(optimizer="paged_adamw_8bit", device_bytes=room, **kind)
    assert paged.host == pytest.approx(4 * GIB)
    assert paged.total == pytest.approx(room)


def test_formats_depend_on_the_engine() -> None:
    mixed = Training(mixed_precision="amp_bf16")
    assert training_profile(mixed, "transformers").style == "autocast"
    assert training_profile(mixed, "fsdp").style == "eager"
    assert training_profile(mixed, "megatron").style == "fused"


def test_unknown_targets_name_the_field() -> None:
    with pytest.raises(InputError) as error:
        run(method="lora", lora_targets=("nothing",))
    assert error.value.field == "training.lora_targets"


def test_varying_lengths_hold_more_but_need_no_more() -> None:
    training = Training(method="lora", gradient_checkpointing=True)
    equal = training_memory(LLAMA, "bf16", training, "transformers")
    ragged = training_memory(LLAMA, "bf16", training, "transformers", varying_lengths=True)
    assert ragged.peak_allocated == equal.peak_allocated
    assert ragged.reserved == pytest.approx(equal.reserved + equal.detail["varying_lengths"])
    assert ragged.reserved > equal.reserved


# ------------------------------------------------------------------------- DeepSpeed


def qwen(hidden: int, ffn: int, layers: int, heads: int) -> Architecture:
    return read_architecture(
        {
            "model_type": "qwen2", "hidden_size": hidden, "intermediate_size": ffn,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 2,
            "vocab_size": 151936, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        },
        "qwen",
    )  # fmt: skip


QWEN_05B, QWEN_15B, QWEN_3B = (
    qwen(896, 4864, 24, 14), qwen(1536, 8960, 28, 12), qwen(2048, 11008, 36, 16),
)  # fmt: skip
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


QWEN_8B = read_architecture(
    {
        "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "head_dim": 128,
        "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 36,
        "vocab_size": 151936, "tie_word_embeddings": False,
    },
    "qwen3-8b shape",
)  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "method", "batch", "peak"),
    [("int8", "qlora", 2, 22.09), ("nf4", "qlora", 2, 18.97), ("fp32", "lora", 1, 36.86),
     ("fp32", "lora", 2, 41.49)],
)  # fmt: skip
def test_bases_with_32_bit_ends_peak_as_measured(
    precision: str, method: str, batch: int, peak: float
) -> None:
    """Under autocast the stream is 32 bit and the head's 16-bit copy lives to its backward."""
    memory = run(
        QWEN_8B, precision=precision, method=method, micro_batch_size=batch,
        gradient_checkpointing=True,
    )  # fmt: skip
    assert memory.peak_allocated / GIB == pytest.approx(peak, rel=0.015)


@pytest.mark.parametrize(("mode", "saved"), [("amp_bf16", 2), ("pure_bf16", 4)])
def test_adapters_keep_16_bit_inputs_under_autocast(mode: str, saved: int) -> None:
    """One H200 held 21.87 GiB live for a LoRA of 1.5 billion under autocast."""

    def live(rank_targets: str) -> float:
        return run(QWEN_15B, method="lora", mixed_precision=mode, micro_batch_size=2,
                   lora_targets=rank_targets).activations  # fmt: skip

    inputs = 28 * 4096 * (4 * 1536 + 2 * 1536 + 8960 - 4 * 1536)
    grown = live("all_linear") - live("attention")
    assert grown == pytest.approx(inputs * saved, rel=0.1)
    if mode == "amp_bf16":
        whole = run(QWEN_15B, method="lora", mixed_precision=mode, micro_batch_size=2)
        assert whole.peak_allocated / GIB == pytest.approx(21.87, rel=0.01)


# ------------------------------------------------------------- experts that are one tensor

QWEN3_30B_4 = read_architecture({**QWEN3_30B, "num_hidden_layers": 4}, "four layers")


@pytest.mark.parametrize(
    ("length", "checkpointing", "gib"),
    [(64, True, 8.598), (64, False, 12.123), (2048, True, 10.569), (2048, False, 16.815)],
)
def test_experts_adapted_in_place_peak_as_recorded(
    length: int, checkpointing: bool, gib: float
) -> None:
    """benchmarks/allocator with transformers 5.24 and PEFT 0.21, rank 16, all linear."""
    held = run(QWEN3_30B_4, method="lora", mixed_precision="pure_bf16", micro_batch_size=1,
               sequence_length=length, gradient_checkpointing=checkpointing)  # fmt: skip
    assert held.peak_allocated / GIB == pytest.approx(gib, rel=0.002)


def test_bitsandbytes_leaves_an_expert_tensor_wide_and_peft_raises_it() -> None:
    experts = QWEN3_30B_4.packed_expert_parameters
    assert experts == 4 * 128 * 3 * 2048 * 768
    small: dict[str, Any] = {"method": "qlora", "lora_targets": "attention"}
    kept = run(QWEN3_30B_4, precision="nf4", gradient_checkpointing=False, **small)
    raised = run(QWEN3_30B_4, precision="nf4", gradient_checkpointing=True, **small)
    linear = run(QWEN3_30B_4.with_linear_experts(), precision="nf4",
                 gradient_checkpointing=False, **small)  # fmt: skip
    assert kept.weights - linear.weights == pytest.approx(experts * (2 - 4.127 / 8), rel=1e-4)
    ends = (2 * 151936 + 1) * 2048
    assert raised.weights - kept.weights == pytest.approx(2 * (experts + ends), rel=1e-4)


@pytest.mark.parametrize(
    ("engine", "version", "wide"),
    [("transformers", None, True), ("transformers", "transformers 5.17.0, torch 2.11", True),
     ("deepspeed", "5.1", True), ("transformers", "transformers 4.51.3", False),
     ("transformers", "litgpt (commit 8641822) torch 2.1.0", False), ("vllm", None, False)],
)  # fmt: skip
def test_the_version_says_whether_experts_are_one_tensor(
    engine: str, version: str | None, wide: bool
) -> None:
    scenario = {
        "version": 1, "model": {"config": QWEN3_30B, "name": "q"}, "precision": "nf4",
        "engine": engine, "engine_version": version, "hardware": {"gpu": "h200-sxm"},
        "task": "inference" if engine == "vllm" else "fine_tuning",
    }  # fmt: skip
    if engine != "vllm":
        scenario["training"] = {"method": "qlora"}
    answer = estimate(parse_scenario(scenario))
    assert (answer.memory.weights_gib > 50) == wide
    said = [n for n in answer.warnings if n.code == "wide_experts"]
    assert bool(said) == wide
    assert not wide or "GiB" in said[0].text("zh")


# --------------------------------------------------------------- what families keep besides


def small(model_type: str, **more: Any) -> Architecture:
    base = {
        "model_type": model_type, "hidden_size": 2048, "intermediate_size": 5632,
        "num_attention_heads": 16, "num_key_value_heads": 4, "num_hidden_layers": 4,
        "vocab_size": 1000, "max_position_embeddings": 4096,
    }  # fmt: skip
    return read_architecture({**base, **more}, model_type)


EXPERTS = {"moe_intermediate_size": 1408, "n_routed_experts": 64, "num_experts_per_tok": 8,
           "n_shared_experts": 1, "head_dim": 128}  # fmt: skip
GPT_OSS_EXPERTS = {"num_local_experts": 16, "num_experts_per_tok": 4, "head_dim": 128}
LLAMA4_EXPERTS = {"num_local_experts": 16, "num_experts_per_tok": 1, "head_dim": 128,
                  "intermediate_size_mlp": 8192}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "more", "trained", "frozen"),
    [
        ("olmo", {}, 79952, 60496),
        ("olmo2", {"num_key_value_heads": 16}, 135248, 83024),
        ("cohere2", {"head_dim": 128}, 84044, 60492),
        ("arcee", {}, 65608, 37960),
        ("phi", {"num_key_value_heads": 16}, 80968, 65608),
        ("gptj", {"num_key_value_heads": 16}, 81480, 66120),
        ("opt", {"num_key_value_heads": 16, "dropout": 0.0}, 44112, 35920),
        ("gpt2", {"num_key_value_heads": 16, "resid_pdrop": 0.0}, 89168, 69712),
        ("gpt_oss", GPT_OSS_EXPERTS, 399608, 313560),
        ("lfm2", {"block_auto_adjust_ff_dim": True}, 89240, 60056),
        ("glm4_moe", EXPERTS, 218852, 136164),
        ("llama4_text", LLAMA4_EXPERTS, 945370, 671962),
    ],
)  # fmt: skip
def test_families_keep_what_a_recorder_of_transformers_saw(
    model_type: str, more: dict[str, Any], trained: int, frozen: int
) -> None:
    """Bytes a token and layer, all 16 bit, transformers 5.24."""
    arch = small(model_type, **more)

    def kept(fixed: bool) -> float:
        profile = Profile("eager", 2, 2, 2, fixed, norms=arch.norm_kept)
        layers = (g.count * layer_activations(g.layer, 2048, profile, (), 16).saved.total
                  for g in arch.groups)  # fmt: skip
        return sum(layers) / 4

    assert kept(False) == pytest.approx(trained, rel=0.01)
    assert kept(True) == pytest.approx(frozen, rel=0.01)


def test_a_dropout_keeps_a_byte_a_number_and_relu_only_its_result() -> None:
    """GPT-2's default of 0.1; ``native_dropout`` returns a mask of booleans."""

    def kept(**more: Any) -> float:
        arch = small("opt", num_key_value_heads=16, **more)
        profile = Profile("eager", 2, 2, 2, False)
        return layer_activations(arch.groups[0].layer, 2048, profile, (), 16).saved.total

    assert kept() - kept(dropout=0.0) == 2 * 2048
    assert kept(activation_function="gelu_new") - kept(activation_function="relu") == 4 * 2 * 5632


def test_code_with_kernels_keeps_no_steps_of_an_activation() -> None:
    """LitGPT calls one kernel where transformers' ``gelu_new`` takes eight steps."""
    phi = {"model_type": "phi", "hidden_size": 2048, "intermediate_size": 8192,
           "num_hidden_layers": 24, "num_attention_heads": 32, "vocab_size": 51200}  # fmt: skip

    def peak(version: str | None) -> float:
        scenario = {
            "version": 1, "model": {"config": phi, "name": "phi-1.5"}, "engine": "transformers",
            "engine_version": version, "hardware": {"gpu": "a100-sxm4-40"}, "precision": "bf16",
            "task": "fine_tuning", "training": {
                "method": "lora", "mixed_precision": "pure_bf16", "micro_batch_size": 4,
                "sequence_length": 1044, "gradient_checkpointing": False, "lora_rank": 8,
                "lora_targets": ["q_proj", "v_proj"],
            },
        }  # fmt: skip
        return estimate(parse_scenario(scenario)).memory.peak_allocated_gib

    assert peak("litgpt (commit 8641822)") == pytest.approx(9.95, rel=0.02)  # published
    three = 3 * 2 * 8192 * 24 * 4 * 1044 / GIB
    assert peak(None) - peak("litgpt") == pytest.approx(three, rel=0.01)
