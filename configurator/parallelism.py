"""Which splits of a model over GPUs are legal, and which one to take when none is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from configurator.architecture import Architecture
from configurator.errors import InputError
from configurator.scenario import Hardware, Scenario

# GPUs that one host joins when nothing faster does (a standard server or workstation board).
HOST_GPUS = 8


Kind = Literal["tensor", "pipeline", "expert", "data"]
_ALL: tuple[Kind, ...] = ("tensor", "pipeline", "expert", "data")
# How each engine lays a model over cards; copies beside each other are data parallel.
ENGINE_SPLITS: Mapping[str, tuple[Kind, ...]] = {
    "vllm": _ALL, "sglang": _ALL, "tensorrt_llm": _ALL, "megatron": _ALL,
    "transformers": ("pipeline", "data"), "llama_cpp": ("pipeline", "data"),
    "deepspeed": ("data",), "fsdp": ("data",),
}  # fmt: skip


def splits_of_engine(engine: str, is_training: bool) -> tuple[Kind, ...]:
    """Kinds of split that an engine runs; transformers places layers for inference only."""
    return ("data",) if engine == "transformers" and is_training else ENGINE_SPLITS[engine]


@dataclass(frozen=True, slots=True)
class Split:
    """How one model copy and its replicas lie over the GPUs.

    ``tensor × pipeline × data`` is the number of GPUs. Experts lie on ``max(tensor, expert)``
    ranks: with ``expert > tensor`` the expert group spans the data-parallel ranks
    (attention data parallelism), else every replica is a copy of its own.
    """

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    data: int = 1

    @property
    def gpus(self) -> int:
        """GPUs in use."""
        return self.tensor * self.pipeline * self.data


def tensor_problem(arch: Architecture, tensor: int, expert: int = 1) -> InputError | None:
    """Return why a tensor-parallel size is not legal, or None.

    Engines split query heads evenly; key-value heads too, or copy each to as many ranks (vLLM
    ``LlamaAttention``: one number must divide the other); MLPs evenly (``divide`` of
    ``vllm.distributed``), and the experts of an FP8 model with block scales only at block borders
    (vLLM ``Fp8LinearMethod``, SGLang likewise).
    """
    if tensor == 1:
        return None
    refuse = partial(InputError, "hardware.tensor_parallel", value=tensor, ranks=tensor)
    for group in arch.groups:
        layer = group.layer
        if layer.attention != "none":
            if layer.heads % tensor:
                return refuse("heads_split", heads=layer.heads)
            shared = layer.kv_heads or 1
            if shared % tensor and tensor % shared:
                return refuse("kv_heads_split", heads=shared)
        if layer.experts and expert >= tensor:
            continue
        shard = layer.ffn * max(1, expert)
        if shard % tensor:
            return refuse("width_split", width=layer.ffn)
        quantization = arch.quantization
        if (
            layer.experts
            and quantization
            and quantization.precision == "fp8"
            and quantization.group_size > 1
        ):
            block = round(quantization.group_size**0.5)
            if (shard // tensor) % block:
                return refuse("blocks_split", width=layer.ffn, block=block)
    return None


def legal_tensor_sizes(arch: Architecture, most: int) -> tuple[int, ...]:
    """Tensor-parallel sizes up to ``most`` that divide the heads evenly."""
    return tuple(t for t in range(1, most + 1) if tensor_problem(arch, t) is None)


def last_stage_layers(layers: int, pipeline: int) -> int:
    """Return layers of a pipeline's last stage where all others hold as many as the fullest.

    Megatron-LM takes no other uneven pipeline without a layout of its own
    (``--decoder-last-pipeline-num-layers``); none is left where this is not positive.
    """
    return layers - -(-layers // pipeline) * (pipeline - 1)


def check_split(arch: Architecture, split: Split, gpu_count: int, engine: str) -> None:
    """Refuse a split that an engine does not run.

    Raises:
        InputError: Names the field, the value and the way out.
    """
    problem = tensor_problem(arch, split.tensor, split.expert)
    if problem is not None:
        raise problem
    if split.pipeline > arch.num_layers:
        raise InputError(
            "hardware.pipeline_parallel", "layers_of_model", split.pipeline, most=arch.num_layers
        )
    if engine == "megatron" and last_stage_layers(arch.num_layers, split.pipeline) < 1:
        raise InputError(
            "hardware.pipeline_parallel", "stage_empty", split.pipeline,
            layers=arch.num_layers, stages=split.pipeline,
        )  # fmt: skip
    if split.expert > 1:
        if not arch.is_moe:
            raise InputError("hardware.expert_parallel", "no_experts", split.expert)
        if split.expert > arch.experts:
            raise InputError(
                "hardware.expert_parallel", "experts_of_model", split.expert, most=arch.experts
            )
        ranks = split.tensor * split.data
        if ranks % split.expert:
            raise InputError("hardware.expert_parallel", "ranks_divide", split.expert, ranks=ranks)
    if split.gpus > gpu_count:
        raise InputError("hardware.gpu_count", "more_gpus", gpu_count, needed=split.gpus)


def choose_split(scenario: Scenario, arch: Architecture, domain_size: int) -> Split:
    """Return the split asked for, its absent parts filled in.

    Inference: the widest legal tensor-parallel size inside one fast domain or host, pipeline
    stages over what is left, replicas over the rest. Training: data parallel over what tensor and
    pipeline parallelism leave.

    Args:
        scenario: Has ``hardware``.
        arch: The model.
        domain_size: GPUs joined by the fast interconnect; 1 where there is none.

    Raises:
        InputError: A part that was asked for is not legal.
    """
    hardware: Hardware | None = scenario.hardware
    if hardware is None:
        raise InputError("hardware", "hardware_required")
    count = hardware.gpu_count
    tensor, pipeline, data = (
        hardware.tensor_parallel,
        hardware.pipeline_parallel,
        hardware.data_parallel,
    )
    if tensor is None:
        if scenario.is_training or scenario.engine in ("transformers", "llama_cpp"):
            tensor = 1
        else:
            room = count // ((pipeline or 1) * (data or 1))
            most = max(1, min(room, max(domain_size, HOST_GPUS)))
            tensor = max((t for t in legal_tensor_sizes(arch, most) if room % t == 0), default=1)
    if pipeline is None:
        left = count // (tensor * (data or 1))
        pipeline = 1 if scenario.is_training else max(1, min(left, arch.num_layers))
    if data is None:
        data = max(1, count // (tensor * pipeline))
    split = Split(tensor, pipeline, hardware.expert_parallel or 1, data)
    check_split(arch, split, count, scenario.engine)
    return split
