"""What is asked: the scenario, checked and frozen. Knows no formula.

Field names and values are those of the contract (version 1); see ``docs/contract.md``.
Sizes are GiB, times seconds, counts plain integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from configurator.errors import InputError

Task = Literal["inference", "fine_tuning", "training"]
Precision = Literal[
    "auto", "fp32", "fp16", "bf16", "fp8", "int8", "int4", "nf4", "mxfp4", "nvfp4",
    "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "q2_k",
]  # fmt: skip
KvPrecision = Literal["auto", "bf16", "fp16", "fp32", "fp8", "int8", "q8_0", "q4_0"]
InferenceEngine = Literal["vllm", "sglang", "tensorrt_llm", "transformers", "llama_cpp"]
TrainingEngine = Literal["transformers", "deepspeed", "fsdp", "megatron"]
Engine = Literal[
    "vllm", "sglang", "tensorrt_llm", "transformers", "llama_cpp", "deepspeed", "fsdp", "megatron"
]
Method = Literal["full", "lora", "qlora"]
MixedPrecision = Literal["amp_bf16", "amp_fp16", "pure_bf16", "fp32", "bf16_master"]
Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd", "muon"]
Sharding = Literal["none", "ddp", "zero1", "zero2", "zero3", "fsdp"]
Offload = Literal["none", "optimizer", "parameters"]
SampleLengths = Literal["auto", "equal", "varying"]

MAX_TOKENS = 100_000_000
MAX_SEQUENCES = 1_000_000
MAX_GPUS = 100_000


def _whole_number(value: Any) -> Any:
    """Refuse booleans and text, accept 8.0 as 8; pydantic does the rest."""
    if isinstance(value, (bool, str)):
        raise InputError("", "whole", value)
    return value


def _count(maximum: int) -> Any:
    return Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=maximum)]


Tokens = Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=MAX_TOKENS)]
Sequences = Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=MAX_SEQUENCES)]
Gpus = Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=MAX_GPUS)]
PositiveTokens = Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=MAX_TOKENS)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ConfigModel(_Part):
    """A model given by its Hugging Face config.json."""

    config: dict[str, Any]
    name: str = Field("uploaded model", max_length=200)


class SizeModel(_Part):
    """A model given by its size alone, in billions of parameters."""

    parameters_b: float = Field(ge=0.1, le=2000)


class Inference(_Part):
    """How the model is served. Token counts are per request."""

    concurrency: Sequences = 1
    input_tokens: Tokens = 1024
    output_tokens: Tokens = 512
    max_model_len: PositiveTokens | None = None
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    max_num_batched_tokens: PositiveTokens | None = None
    max_num_seqs: Sequences | None = None
    prefix_cache_share: float | None = Field(default=None, ge=0, lt=1)
    speculative_tokens: (
        Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=16)] | None
    ) = None
    acceptance_rate: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _some_tokens(self) -> Inference:
        if self.input_tokens + self.output_tokens < 1:
            raise InputError("", "both_zero")
        return self

    @property
    def context_tokens(self) -> int:
        """Tokens that one request holds at its end."""
        return self.input_tokens + self.output_tokens


class Training(_Part):
    """How the model is trained. Batch and sequence are per data-parallel rank."""

    method: Method = "full"
    mixed_precision: MixedPrecision = "amp_bf16"
    micro_batch_size: Sequences = 1
    sequence_length: PositiveTokens = 2048
    gradient_accumulation: Sequences = 1
    optimizer: Optimizer = "adamw"
    gradient_checkpointing: bool = False
    lora_rank: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=4096)] = 16
    lora_targets: Literal["all_linear", "attention"] | tuple[str, ...] = "all_linear"
    sharding: Sharding = "none"
    offload: Offload = "none"
    sample_lengths: SampleLengths = "auto"


class CustomGpu(_Part):
    """A card that is not in the catalog. Rates are dense, with 32-bit accumulation."""

    name: str = Field("custom GPU", max_length=200)
    memory_gib: float = Field(gt=0, le=10_000)
    bandwidth_gbps: float = Field(gt=0, le=1_000_000)
    bf16_tflops: float | None = Field(None, gt=0, le=1_000_000)
    fp16_tflops: float | None = Field(None, gt=0, le=1_000_000)
    fp8_tflops: float | None = Field(None, gt=0, le=1_000_000)
    int8_tflops: float | None = Field(None, gt=0, le=1_000_000)
    fp4_tflops: float | None = Field(None, gt=0, le=1_000_000)
    fp32_tflops: float | None = Field(None, gt=0, le=1_000_000)
    link_gbps: float | None = Field(None, gt=0, le=1_000_000)
    domain_size: Gpus | None = None


class Hardware(_Part):
    """The cards and how the model is split over them; an absent split is chosen."""

    gpu: str | CustomGpu
    gpu_count: Gpus = 1
    tensor_parallel: Gpus | None = None
    pipeline_parallel: Gpus | None = None
    expert_parallel: Gpus | None = None
    data_parallel: Gpus | None = None
    allow_cpu_offload: bool = False


class Scenario(_Part):
    """One question: this model, at this precision, for this task, on this hardware."""

    version: Literal[1] = 1
    model: str | ConfigModel | SizeModel
    task: Task = "inference"
    precision: Precision = "auto"
    kv_cache_precision: KvPrecision = "auto"
    engine: Engine = "vllm"
    inference: Inference | None = None
    training: Training | None = None
    hardware: Hardware | None = None
    engine_version: str | None = Field(None, max_length=200)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Give the task its block and its engine where they are absent."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        if data.get("task", "inference") == "inference":
            if data.get("inference") is None:
                data["inference"] = {}
        else:
            if data.get("training") is None:
                data["training"] = {}
            data.setdefault("engine", "transformers")
        return data

    @field_validator("engine_version")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        return value or None

    @model_validator(mode="after")
    def _engine_fits_task(self) -> Scenario:
        allowed = get_args(InferenceEngine if self.task == "inference" else TrainingEngine)
        if self.engine not in allowed:
            raise InputError(
                "engine",
                "engine_task",
                self.engine,
                engine=self.engine,
                task=self.task,
                known=", ".join(allowed),
            )
        return self

    @property
    def is_training(self) -> bool:
        """Whether gradients and optimizer states are held."""
        return self.task != "inference"

    @property
    def computes_in_bf16(self) -> bool:
        """Whether a training step multiplies in BF16, whatever the weights are stored in."""
        return self.is_training and "bf16" in self.fitting.mixed_precision

    @property
    def varying_lengths(self) -> bool:
        """Whether batches differ in length, so that the allocator's cached blocks rarely fit.

        ``auto``: adapters tuned on a data set's own samples with transformers vary; pre-training
        and full fine-tuning pack them.
        """
        asked = self.fitting.sample_lengths
        if asked != "auto":
            return asked == "varying"
        return (
            self.task == "fine_tuning"
            and self.engine == "transformers"
            and self.fitting.method != "full"
        )

    @property
    def serving(self) -> Inference:
        """The inference block; a default one where the task has none."""
        return self.inference or Inference()

    @property
    def fitting(self) -> Training:
        """The training block; a default one where the task has none."""
        return self.training or Training()


# pydantic's kind of complaint → ours.
_CODES = {
    "missing": "required",
    "extra_forbidden": "no_field",
    "finite_number": "finite",
    "int_from_float": "whole",
    "int_type": "whole",
    "float_type": "number",
    "bool_type": "flag",
    "bool_parsing": "flag",
    "string_type": "text",
    "dict_type": "object",
    "model_type": "object",
    "model_attributes_type": "object",
    "tuple_type": "list",
    "list_type": "list",
    "date_type": "date",
    "date_from_datetime_parsing": "date",
}
_BOUNDS = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le",
           "less_than": "lt"}  # fmt: skip
# The branch of a union shows in pydantic's path; the reader knows only the field.
_BRANCHES = {"str": str, "ConfigModel": dict, "SizeModel": dict, "CustomGpu": dict}


def _path(problem: Mapping[str, Any]) -> str:
    parts = [str(p) for p in problem["loc"]]
    return ".".join(p for p in parts if p not in _BRANCHES and "[" not in p)


def _best(problems: list[Any]) -> Any:
    """Of a union's complaints take the one of the branch that the value meant."""

    def rank(problem: Any) -> tuple[int, int]:
        kind = problem["type"]
        meant = 0 if kind in ("string_type", "missing", "extra_forbidden", "model_type") else 1
        return meant, len(problem["loc"])

    first = problems[0]["loc"][:1]
    return max((p for p in problems if p["loc"][:1] == first), key=rank)


def _to_input_error(error: ValidationError) -> InputError:
    """Turn pydantic's first complaint into one that names field, value and way out."""
    problems = error.errors(include_url=False)
    problem = _best(problems)
    path = _path(problem)
    kind, context = problem["type"], problem.get("ctx") or {}
    own = context.get("error")
    if isinstance(own, InputError):  # a check over several fields knows which one it means
        return own.at(".".join(filter(None, (path, own.field))) or "scenario")
    code, facts = _CODES.get(kind, "refused"), {"reason": problem["msg"]}
    if kind in _BOUNDS:
        code, facts = kind, {"bound": context[_BOUNDS[kind]]}
    elif kind == "literal_error":
        code, facts = "one_of", {"known": context.get("expected")}
    return InputError(path or "scenario", code, problem.get("input"), **facts)


def parse_scenario(data: Any) -> Scenario:
    """Check a decoded JSON object and return it as a frozen scenario.

    Args:
        data: The object; anything but a mapping is refused.

    Raises:
        InputError: Names the first field that cannot be used, its value and the way out.
    """
    if not isinstance(data, Mapping):
        raise InputError("scenario", "object", data)
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise _to_input_error(error) from None
