"""One real transformers/PEFT training run on fake CPU tensors: code runs, no number is computed.

What differs from a run on a card is replaced: attention is a stand-in with the storages that
PyTorch's FlashAttention kernels make (output, log-sum-exp; going back a 32-bit accumulator), no
attention mask is built for full causal sequences, grouped heads are not repeated, and PEFT does
not move adapters between devices.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import transformers
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from recorder import Recorder
from torch._subclasses import FakeTensorMode
from transformers import masking_utils
from transformers.integrations import sdpa_attention

STEPS = 3  # the optimizer's states exist from the second, the allocator is settled in the third


@dataclass(frozen=True)
class Job:
    """What to train and how.

    Attributes:
        model: Catalog id.
        mode: ``amp`` (fp32 weights, bf16 autocast), ``bf16``, ``fp32``, or ``lora`` (rank 16 on
            all linear layers of a bf16 base).
        batch, length: Of one step.
        checkpointing: Every layer is recomputed.
    """

    model: str
    mode: str
    batch: int
    length: int
    checkpointing: bool

    def __str__(self) -> str:
        name = self.model.rsplit("/", 1)[-1]
        replay = "recompute" if self.checkpointing else "keep"
        return f"{name} {self.mode} {self.batch}×{self.length} {replay}"


@dataclass(frozen=True)
class Recording:
    """Bytes that the run would take on a card.

    Attributes:
        weights: Live once the model and the optimizer stand.
        peak, reserved: Of the last step: live tensors, the allocator's segments.
        phases: Peak of live bytes by ``forward``, ``backward``, ``optimizer``.
    """

    weights: int
    peak: int
    reserved: int
    phases: dict[str, int]


class _Flash(torch.autograd.Function):
    """Storages of FlashAttention-2 forward and backward; the values are not computed."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        batch, heads, length, _ = query.shape
        out = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        lse = query.new_empty(batch, heads, length, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        query, key, value, _, _ = ctx.saved_tensors
        batch, heads, length, dim = query.shape
        shape = (batch, length, heads, dim)
        # Held to the end of the call, as the kernel holds them.
        workspace = [
            query.new_empty(shape, dtype=torch.float32),  # the query's gradient adds up in 32 bit
            query.new_empty(batch, heads, length, dtype=torch.float32),
        ]
        gradients = [
            t.new_empty(batch, length, t.shape[1], t.shape[-1]).transpose(1, 2)
            for t in (query, key, value)
        ]
        if key.shape[1] != heads:  # written per query head, then summed
            workspace += [key.new_empty(shape), value.new_empty(shape)]
        del workspace
        return tuple(gradients)


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (t.to(torch.bfloat16) for t in (query, key, value))
        with torch.autocast("cpu", enabled=False):
            return _Flash.apply(query, key, value)
    return _Flash.apply(query, key, value)


# Plain functions: a mock keeps the arguments of its last call, tensors among them.
def _nothing(*_: Any, **__: Any) -> None:
    return None


def _yes(*_: Any, **__: Any) -> bool:
    return True


def _itself(module: Any, *_: Any, **__: Any) -> Any:
    return module


@contextmanager
def _as_on_a_card() -> Iterator[None]:
    masks = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS._global_mapping
    with (
        mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", _attention),
        mock.patch.dict(masks, {"sdpa": _nothing}),
        mock.patch.object(sdpa_attention, "use_gqa_in_sdpa", _yes),
        mock.patch.object(BaseTunerLayer, "_move_adapter_to_device_of_base_layer", _nothing),
    ):
        yield


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _model(job: Job, config: transformers.PretrainedConfig) -> torch.nn.Module:
    wide = job.mode in ("amp", "fp32")
    with _default_dtype(torch.float32 if wide else torch.bfloat16):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    model.train()
    model.config.use_cache = False
    if job.mode == "lora":
        adapters = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
        # PEFT moves each new layer to its base's device; fake tensors have only one.
        with mock.patch.object(torch.nn.Module, "to", _itself):
            model = get_peft_model(model, adapters)
        if job.checkpointing:
            model.enable_input_require_grads()
    if job.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def configuration(values: dict[str, Any]) -> transformers.PretrainedConfig:
    """Return transformers' configuration of a config.json, with full attention throughout."""
    values = copy.deepcopy(values)
    for name in ("torch_dtype", "dtype", "quantization_config"):
        values.pop(name, None)
    values |= {"sliding_window": None, "use_sliding_window": False}
    return transformers.AutoConfig.for_model(values.pop("model_type"), **values)


def record(job: Job, config: dict[str, Any], capacity: int | None = None) -> Recording:
    """Run three steps of a job and return what the third would take.

    Args:
        job: What to train and how.
        config: The model's config.json.
        capacity: Bytes the allocator may take from the card; None: no limit.
    """
    recorder = Recorder(capacity)
    with _as_on_a_card(), FakeTensorMode(allow_non_fake_inputs=True), recorder:
        model = _model(job, configuration(config))
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-5, foreach=True)
        weights = recorder.allocator.allocated
        for step in range(STEPS):
            if step == STEPS - 1:
                recorder.restart()
            recorder.phase = "forward"
            ids = torch.zeros(job.batch, job.length, dtype=torch.long)
            with torch.autocast("cpu", torch.bfloat16, enabled=job.mode == "amp"):
                loss = model(input_ids=ids, labels=ids).loss
            recorder.phase = "backward"
            loss.backward()
            recorder.phase = "optimizer"
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)  # gradients stay, as in our measurements
            del loss
        held = recorder.allocator
        return Recording(weights, held.peak_allocated, held.reserved, dict(recorder.peaks))
