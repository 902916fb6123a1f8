"""Stored weights: bits per weight by precision and tensor, and each GPU's share of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from configurator.architecture import Architecture, Layer, Matrix, Quantization
from configurator.architecture.families import family_name
from configurator.engines import NEAREST_GGUF, constant
from configurator.scenario import Scenario
from configurator.units import MIB

# Bits a weight of GGUF's block types (ggml-common.h: block size in bytes × 8 / weights a block).
GGUF_BITS = {
    "f32": 32.0, "f16": 16.0, "q8_0": 8.5, "q6_k": 6.5625, "q5_k": 5.5, "q5_1": 6.0, "q5_0": 5.5,
    "q4_k": 4.5, "q4_0": 4.5, "q3_k": 3.4375, "q2_k": 2.625, "mxfp4": 4.25,
}  # fmt: skip
GGUF_MIXES = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "q2_k")
# What a row that is no multiple of a type's 256 weights gets instead: blocks of 32
# (llama.cpp's ``tensor_type_fallback``; older releases took IQ4_NL for Q4_0, of the same size).
GGUF_FALLBACK = {"q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
# Modules whose query, key and value llama.cpp's converter keeps in one tensor, ``attn_qkv``.
GGUF_FUSED = frozenset({
    "query_key_value", "qkv_proj", "Wqkv", "c_attn", "attn.c_attn", "in_proj_qkv",
})  # fmt: skip
PLAIN_BITS = {"fp32": 32.0, "fp16": 16.0, "bf16": 16.0}
# PyTorch's caching allocator (c10/cuda/CUDACachingAllocator): blocks of 10 MiB and more come in
# steps of 2 MiB, and what is left of one is split off only if it is larger than 1 MiB.
LARGE_BLOCK = 10 * MIB
BLOCK_STEP = 2 * MIB
SMALLEST_SPLIT = MIB
TORCH_ENGINES = ("vllm", "sglang", "transformers", "deepspeed", "fsdp", "megatron")
TRANSFORMERS_ENGINES = ("transformers", "deepspeed", "fsdp")
# Engines pad the vocabulary to a multiple of this (vLLM: DEFAULT_VOCAB_PADDING_SIZE).
VOCAB_PADDING = 64


def resolve_precision(scenario: Scenario, arch: Architecture) -> str:
    """Return what weights are stored in; ``auto`` stands for the checkpoint's own.

    QLoRA's base is quantised, in NF4 where no other such precision is named: a wide one is what
    it computes in (arXiv 2305.14314, section 3).
    """
    precision = scenario.precision
    qlora = scenario.is_training and scenario.fitting.method == "qlora"
    if precision != "auto" and not (qlora and precision in PLAIN_BITS):
        return precision
    if arch.quantization:
        return arch.quantization.precision
    return "nf4" if qlora else arch.native_precision


def wide_bits(precision: str, native: str) -> float:
    """Bits of what a precision leaves unquantised: embeddings, norms, router."""
    if precision in PLAIN_BITS:
        return PLAIN_BITS[precision]
    return 32.0 if native == "fp32" and precision == "fp32" else 16.0


def scale_bits(precision: str, matrix: Matrix, quantization: Quantization | None) -> float:
    """Bits a weight that scales, zero points and quantiser state add.

    FP8: one 32-bit scale a block (DeepSeek 128×128) or an output channel. AWQ/GPTQ: a 16-bit
    scale and a zero point a group of 128. NF4: a 32-bit absmax a block of 64, or 8 bit with
    double quantisation (QLoRA, arXiv 2305.14314, section 3). MXFP4/NVFP4: an 8-bit scale a block
    of 32/16 (OCP Microscaling 1.0; NVIDIA). INT8: a 32-bit scale an output channel.

    Args:
        precision: What the tensor is stored in.
        matrix: The tensor.
        quantization: The checkpoint's own scheme; None = the precision's usual one.
    """
    group = quantization.group_size_of(matrix) if quantization else 0
    zero = quantization.zero_point if quantization else True
    channel = 32.0 / max(1, matrix.in_features)
    if precision == "fp8":
        return 32.0 / group if group else channel
    if precision in ("int8", "int4"):
        bits = _CODE_BITS[precision]
        if precision == "int4" and quantization is None:
            group = 128
        return (16.0 + (bits if zero else 0.0)) / group if group else channel
    if precision == "nf4":
        double = quantization.double_quant if quantization else True
        return 8.0 / 64 + 32.0 / (64 * 256) if double else 32.0 / 64
    if precision == "mxfp4":
        return 8.0 / 32
    if precision == "nvfp4":
        return 8.0 / 16
    return 0.0


_CODE_BITS = {"fp8": 8.0, "int8": 8.0, "int4": 4.0, "nf4": 4.0, "mxfp4": 4.0, "nvfp4": 4.0}


def _more_bits(index: int, layers: int) -> bool:
    """llama.cpp's rule for which layers of a ``_M`` mix get the larger type."""
    return index < layers // 8 or index >= 7 * layers // 8 or (index - layers // 8) % 3 == 2


def gguf_bits(mix: str, matrix: Matrix, arch: Architecture, layer: Layer | None) -> float:
    """Average bits a weight of a tensor in a GGUF mix, over the model's layers.

    Source: llama.cpp ``llama_tensor_get_type`` (src/llama-quant.cpp): which type each tensor gets
    in each mix. Vectors and the router stay 32 bit.

    Args:
        mix: One of `GGUF_MIXES`, or ``f16``.
        matrix: The tensor.
        arch: The model.
        layer: The layer it stands in, None for the model's ends.
    """
    if matrix.role == "vision":
        return GGUF_BITS["f16"]
    if matrix.in_features == 1 or matrix.role in ("norm", "router"):
        return GGUF_BITS["f32"]
    if mix == "f16":
        return GGUF_BITS["f16"]
    types = _gguf_types(mix, matrix, arch, layer)
    return sum(share * _row_bits(kind, matrix.in_features) for kind, share in types.items())


def _row_bits(kind: str, row: int) -> float:
    """Bits a weight of a type, or of what stands in for it where blocks do not fill a row."""
    if row % 32:
        return GGUF_BITS["f16"]
    return GGUF_BITS[GGUF_FALLBACK.get(kind, kind) if row % 256 else kind]


def _gguf_types(
    mix: str, matrix: Matrix, arch: Architecture, layer: Layer | None
) -> dict[str, float]:
    """Types that a tensor gets in a mix, each with its share of the layers.

    Fused query-key-value tensors follow the rule by which files were published; since 2026
    llama-quantize treats them as value projections, and such files are up to 2 % smaller.
    """
    layers, experts = arch.num_layers, arch.experts
    falcon = family_name(arch.model_type, []) == "falcon"
    base = {"q5_k_m": "q5_k", "q4_k_m": "q4_k", "q3_k_m": "q3_k"}.get(mix, mix)
    if matrix.role == "head" or (matrix.role == "embedding" and arch.tied_embeddings):
        return {"q8_0" if mix == "q8_0" or falcon else "q6_k": 1.0}
    if matrix.role == "embedding" or mix == "q8_0":
        return {base: 1.0}
    name = matrix.name.rsplit(".", 1)[-1]
    more = sum(_more_bits(i, layers) for i in range(layers)) / max(1, layers)
    first = (layers // 16) / max(1, layers)
    shared = layer.heads // max(1, layer.kv_heads) if layer else 1
    if matrix.module_name in GGUF_FUSED:
        return {{"q3_k_m": "q4_k", "q4_k_m": "q5_k", "q5_k_m": "q6_k"}.get(mix, base): 1.0}
    if name in ("k_proj", "v_proj") and experts == 8:
        return {"q8_0": 1.0}
    if name == "v_proj":
        large = layers == 80 and shared > 1  # llama.cpp's 70B
        if mix in ("q4_k_m", "q5_k_m"):
            return {"q6_k": more, "q5_k" if large else base: 1 - more}
        if mix == "q3_k_m":
            early = min(2, layers) / max(1, layers)
            return {"q5_k": 1.0} if large else {"q5_k": early, "q4_k": 1 - early}
        if mix == "q2_k":
            wide = "q5_k" if large else "q4_k"
            return {wide if large or shared >= 4 else "q3_k": 1.0}
    elif name == "down_proj":
        if mix == "q4_k_m" and falcon:
            return {"q6_k": first, "q5_k": more - first, base: 1 - more}
        if mix in ("q4_k_m", "q5_k_m"):
            return {"q6_k": more, base: 1 - more}
        if mix == "q3_k_m" and falcon:
            return {"q5_k": first, "q4_k": more - first, base: 1 - more}
        if mix == "q3_k_m":
            return {"q5_k": first, "q4_k": 1 - first}
        if mix == "q2_k":
            return {"q3_k": 1.0}
    elif name in ("o_proj", "wo_b") and not falcon:
        if experts == 8 and mix in ("q4_k_m", "q3_k_m", "q2_k"):
            return {"q5_k": 1.0}
        return {{"q3_k_m": "q4_k", "q2_k": "q3_k"}.get(mix, base): 1.0}
    return {base: 1.0}


def keeps_packed(precision: str, engine: str) -> bool:
    """Whether experts that are one tensor stay as they are.

    bitsandbytes quantises linear modules alone (transformers 5.24, ``replace_with_bnb_linear``).
    """
    return precision in ("nf4", "int8") and engine in TRANSFORMERS_ENGINES


def stored_bits(
    matrix: Matrix, precision: str, arch: Architecture, engine: str, layer: Layer | None = None
) -> float:
    """Bits a weight of one tensor, scales included.

    Args:
        matrix: The tensor.
        precision: Resolved precision (not ``auto``).
        arch: The model; its quantisation says which modules stay wide.
        engine: llama.cpp stores GGUF types; the rest store what the checkpoint holds.
        layer: The layer it stands in, None for the model's ends.
    """
    quantization = arch.quantization
    if precision in GGUF_MIXES or engine == "llama_cpp":
        if precision == "fp32":
            return 32.0
        if precision == "mxfp4" and arch.is_moe:
            if matrix.role == "expert" and matrix.linear:
                return GGUF_BITS["mxfp4"]
            # A checkpoint in MXFP4 is converted as it is; llama-quantize's MXFP4_MOE makes the
            # rest of another one Q8_0.
            native = quantization is not None and quantization.precision == "mxfp4"
            return gguf_bits("f16" if native else "q8_0", matrix, arch, layer)
        mix = "f16" if precision in PLAIN_BITS else NEAREST_GGUF.get(precision, precision)
        return gguf_bits(mix, matrix, arch, layer)
    if precision in PLAIN_BITS:
        return PLAIN_BITS[precision]
    wide = wide_bits(precision, arch.native_precision)
    if precision == "nf4" and matrix.role == "head" and matrix.linear and arch.head_quantised:
        return _CODE_BITS["nf4"] + scale_bits("nf4", matrix, quantization)
    if quantization and quantization.precision == precision:
        share, used = quantization.quantized_share(matrix), quantization.precision_of(matrix)
        if used is None or used in PLAIN_BITS:
            return PLAIN_BITS.get(used or "", wide)
        code = quantization.bits or _CODE_BITS[used]
        if used == "mxfp4" and engine in ("vllm", "sglang"):  # packed columns are padded
            step = constant("vllm", "mxfp4_padding")
            code *= -(-matrix.in_features // step) * step / matrix.in_features
        return share * (code + scale_bits(used, matrix, quantization)) + (1 - share) * wide
    if not matrix.linear or matrix.role in ("head", "router", "embedding", "vision"):
        return wide
    if keeps_packed(precision, engine) and matrix.packing != "linear":
        return wide
    if precision == "mxfp4" and arch.is_moe and matrix.role != "expert":
        return wide
    return _CODE_BITS[precision] + scale_bits(precision, matrix, None)


@dataclass(frozen=True)
class WeightTable:
    """Bytes of a model's weights by how they are split, all layers together.

    ``kv`` holds ``(heads, bytes)`` pairs: such tensors go to at most ``heads`` ranks. ``host``
    stays in host memory (llama.cpp's token embedding).
    """

    column: float
    replicated: float
    expert: float
    kv: tuple[tuple[int, float], ...]
    embedding: float
    head: float
    sharded_ends: float
    other_ends: float
    layers: int
    tied: bool
    host: float = 0.0

    @property
    def total(self) -> float:
        """Bytes of the whole model."""
        kv = sum(b for _, b in self.kv)
        return (
            self.column
            + self.replicated
            + self.expert
            + kv
            + self.embedding
            + self.head
            + self.sharded_ends
            + self.other_ends
        )

    @property
    def layer_total(self) -> float:
        """Bytes of the decoder layers."""
        return self.column + self.replicated + self.expert + sum(b for _, b in self.kv)

    def per_gpu(self, tensor: Any = 1, pipeline: Any = 1, expert: Any = 1) -> Any:
        """Bytes on the fullest GPU.

        Args:
            tensor: Tensor-parallel ranks (number or array).
            pipeline: Pipeline stages; the fullest holds ``ceil(layers / stages)`` layers.
            expert: Expert-parallel ranks; experts lie on ``max(tensor, expert)`` ranks.
        """
        layers = self.column / tensor + self.replicated + self.expert / np.maximum(tensor, expert)
        for heads, size in self.kv:
            layers = layers + size / np.minimum(tensor, heads)
        stage = np.ceil(self.layers / np.asarray(pipeline)) / max(1, self.layers)
        first = (self.embedding + self.sharded_ends) / tensor + self.other_ends
        last = (self.embedding if self.tied else self.head) / tensor
        ends = np.where(
            np.asarray(pipeline) == 1, first + (0.0 if self.tied else last), np.maximum(first, last)
        )
        return layers * stage + ends


@lru_cache(maxsize=4096)
def weight_table(
    arch: Architecture, precision: str, engine: str = "vllm", with_mtp: bool = False
) -> WeightTable:
    """Sum a model's weights by how they are split.

    Args:
        arch: The model.
        precision: Resolved precision.
        engine: ``llama_cpp`` stores GGUF types, and the language model alone.
        with_mtp: Count the multi-token-prediction layers too.
    """
    column = replicated = expert = 0.0
    kv: dict[int, float] = {}
    groups = (*arch.groups, *arch.mtp_groups) if with_mtp else arch.groups
    for group in groups:
        for matrix in group.layer.matrices:
            bits = stored_bits(matrix, precision, arch, engine, group.layer)
            size = matrix.parameters * group.count * bits / 8
            if matrix.shard in ("column", "row", "vocab"):
                column += size
            elif matrix.shard == "kv":
                kv[group.layer.kv_heads] = kv.get(group.layer.kv_heads, 0.0) + size
            elif matrix.shard == "expert":
                expert += size
            else:
                replicated += size
    embedding = head = sharded = other = host = 0.0
    for matrix in arch.ends:
        if engine == "llama_cpp" and matrix.role == "vision":
            continue  # a file of its own, loaded with ``--mmproj`` alone
        size = matrix.parameters * stored_bits(matrix, precision, arch, engine) / 8
        if matrix.shard == "vocab" and engine in ("vllm", "sglang"):
            rows = matrix.out_features
            size *= -(-rows // VOCAB_PADDING) * VOCAB_PADDING / rows
        if matrix.name == "embed_tokens":
            if engine == "llama_cpp" and not arch.tied_embeddings:
                host += size
            else:
                embedding += size
        elif matrix.role == "head":
            head += size
        elif matrix.shard == "vocab":
            sharded += size
        else:
            other += size
    return WeightTable(
        column, replicated, expert, tuple(sorted(kv.items())), embedding, head, sharded, other,
        arch.num_layers, arch.tied_embeddings, host,
    )  # fmt: skip


def block_bytes(size: float) -> float:
    """Bytes that PyTorch's allocator counts for one tensor of ``size`` bytes."""
    if size < LARGE_BLOCK:
        return size
    rest = -size % BLOCK_STEP
    return size + rest if rest <= SMALLEST_SPLIT else size


# Modules that serving engines fuse into one tensor.
_FUSED = {
    "q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up",
    "experts.gate_proj": "w13", "experts.up_proj": "w13",
    "shared_experts.gate_proj": "shared_gate_up", "shared_experts.up_proj": "shared_gate_up",
}  # fmt: skip


@lru_cache(maxsize=8192)
def allocator_slack(
    arch: Architecture, precision: str, engine: str, tensor: int = 1, expert: int = 1
) -> float:
    """Bytes that rounding every tensor to the allocator's blocks adds on one GPU, all layers.

    Args:
        arch: The model.
        precision: Resolved precision.
        engine: Serving engines fuse q, k, v and gate, up into one tensor each.
        tensor: Tensor-parallel ranks.
        expert: Expert-parallel ranks.
    """
    if engine not in TORCH_ENGINES:
        return 0.0
    fuses = engine in ("vllm", "sglang")
    total = 0.0
    for group in arch.groups:
        sizes: dict[str, float] = {}
        for matrix in group.layer.matrices:
            size = matrix.parameters * stored_bits(matrix, precision, arch, engine, group.layer) / 8
            ranks = {
                "replicated": 1, "expert": max(tensor, expert),
                "kv": min(tensor, group.layer.kv_heads),
            }.get(matrix.shard, tensor)  # fmt: skip
            name = _FUSED.get(matrix.name, matrix.name) if fuses else matrix.name
            sizes[name] = sizes.get(name, 0.0) + size / ranks
        total += group.count * sum(block_bytes(size) - size for size in sizes.values())
    for matrix in arch.ends:
        size = matrix.parameters * stored_bits(matrix, precision, arch, engine) / 8
        size /= tensor if matrix.shard == "vocab" else 1
        total += block_bytes(size) - size
    return total


def rounding_bytes(
    arch: Architecture, precision: str, engine: str, tensor: Any = 1, pipeline: Any = 1,
    expert: Any = 1,
) -> Any:  # fmt: skip
    """Bytes beyond the stored weights that the allocator's blocks take on the fullest GPU.

    Args:
        arch: The model.
        precision: Resolved precision.
        engine: Engine.
        tensor: Tensor-parallel ranks (number or array).
        pipeline: Pipeline stages.
        expert: Expert-parallel ranks.
    """
    if np.ndim(tensor) == 0 and np.ndim(expert) == 0:
        slack: Any = allocator_slack(arch, precision, engine, int(tensor), int(expert))
    else:
        wide = int(np.max(expert, initial=0)) + 1
        pairs, index = np.unique(
            np.asarray(tensor, np.int64) * wide + np.asarray(expert, np.int64), return_inverse=True
        )
        values = [
            allocator_slack(arch, precision, engine, *divmod(int(pair), wide)) for pair in pairs
        ]
        slack = np.array(values)[index]
    return slack / np.asarray(pipeline)
