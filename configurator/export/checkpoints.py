"""Checkpoints made from another: quantised weights, narrower layers."""

from __future__ import annotations

import json

from configurator.estimate import Estimate
from configurator.export.shell import DTYPES, Artifact, file_stem, loader, model_reference, note
from configurator.words import say

# Of LLM Compressor.
SCHEMES = {"fp8": "FP8_DYNAMIC", "int8": "W8A16", "int4": "W4A16", "nvfp4": "NVFP4"}
# Which of them an engine loads: TensorRT-LLM reads none that leaves activations alone
# (``update_quant_config_from_compressed_tensors``).
LOADED = {"vllm": tuple(SCHEMES), "sglang": tuple(SCHEMES), "tensorrt_llm": ("fp8", "nvfp4")}
# What an engine makes of a 16-bit checkpoint while it loads: precision and the method's name.
ON_LOADING = {
    "vllm": {"fp8": "fp8", "nf4": "bitsandbytes"},
    "sglang": {"fp8": "fp8", "nf4": "bitsandbytes"},
    "transformers": {"int8": "bitsandbytes", "int4": "bitsandbytes", "nf4": "bitsandbytes",
                     "fp8": "fine-grained FP8"},
}  # fmt: skip


def _own(answer: Estimate) -> str:
    """Precision that the published checkpoint is stored in."""
    arch = answer.architecture
    return arch.quantization.precision if arch.quantization else arch.native_precision


def is_native(answer: Estimate) -> bool:
    """Whether the checkpoint itself is stored at the precision asked for."""
    return answer.precision == _own(answer)


def on_loading(answer: Estimate) -> str | None:
    """Method by which the engine quantises a 16-bit checkpoint while it loads; None: not at all."""
    if is_native(answer) or answer.architecture.quantization:
        return None
    return ON_LOADING.get(answer.scenario.engine, {}).get(answer.precision)


def quantizer(answer: Estimate, precision: str, language: str = "en") -> tuple[Artifact, ...]:
    """Return what makes a checkpoint of a precision.

    Nothing where no 16-bit one is published, or the engine would not load the result.
    """
    loaded = LOADED.get(answer.scenario.engine, ())
    if answer.architecture.quantization or precision not in loaded:
        return ()
    return (Artifact("quantize.py", "python", quantize_script(answer, precision, language)),)


def checkpoint_note(answer: Estimate, language: str = "en") -> str:
    """Say which checkpoint is needed where the published one does not load as asked."""
    precision, own = answer.precision, _own(answer)
    stored = answer.architecture.quantization is not None
    if is_native(answer) or on_loading(answer) or (precision in DTYPES and not stored):
        return ""
    if stored:
        return note("code.stored_otherwise", language, stored=own, precision=precision)
    if quantizer(answer, precision):
        return note("code.needs_checkpoint_script", language, precision=precision)
    if precision in ("int4", "int8") and answer.scenario.engine == "tensorrt_llm":
        return note("code.needs_checkpoint_optimizer", language, precision=precision)
    return note("code.needs_checkpoint", language, precision=precision)


def quantize_script(answer: Estimate, precision: str, language: str = "en") -> str:
    """Return a script that makes a checkpoint of ``fp8``, ``int8``, ``int4`` or ``nvfp4``.

    Use :func:`quantizer`, which knows whether that helps.

    Raises:
        KeyError: LLM Compressor has no scheme for the precision.
    """
    scheme, model = SCHEMES[precision], loader(answer)
    calibrated = precision in ("int4", "nvfp4")
    kind = "GPTQModifier" if precision == "int4" else "QuantizationModifier"
    module = "gptq" if precision == "int4" else "quantization"
    samples = (
        '    dataset="open_platypus",\n    num_calibration_samples=512,\n    max_seq_length=2048,\n'
        if calibrated
        else ""
    )
    return (
        f'"""{say("code.quantize", language, precision=precision)}"""\n\n'
        "from llmcompressor import oneshot\n"
        f"from llmcompressor.modifiers.{module} import {kind}\n"
        f"from transformers import {model}, AutoTokenizer\n\n"
        f"MODEL = {json.dumps(model_reference(answer))}\n"
        f"OUTPUT = {json.dumps(f'{file_stem(answer)}-{precision}')}\n\n"
        "tokenizer = AutoTokenizer.from_pretrained(MODEL)\n"
        f'model = {model}.from_pretrained(MODEL, dtype="auto")\n'
        "oneshot(\n"
        "    model=model,\n"
        "    tokenizer=tokenizer,\n"
        f'    recipe={kind}(targets="Linear", scheme={json.dumps(scheme)}, ignore=["lm_head"]),\n'
        f"{samples}"
        ")\n"
        "model.save_pretrained(OUTPUT, save_compressed=True)\n"
        "tokenizer.save_pretrained(OUTPUT)\n"
    )


def pruner(answer: Estimate, output: str, width: int, language: str = "en") -> tuple[Artifact, ...]:
    """Return what makes the narrower model: see :func:`prune_script`."""
    return (Artifact("prune.py", "python", prune_script(answer, output, width, language)),)


def prune_script(answer: Estimate, output: str, width: int, language: str = "en") -> str:
    """Return a script that takes the weakest channels out of every gated MLP.

    Channels are ranked by the product of their three norms; what is left must be trained again.

    Args:
        answer: Of the whole model.
        output: Folder of the narrower one.
        width: Channels that stay in each MLP.
        language: Of its docstring.
    """
    model = loader(answer)
    return (
        f'"""{say("code.prune", language)}"""\n\n'
        "import torch\n"
        f"from transformers import {model}, AutoTokenizer\n\n"
        f"MODEL = {json.dumps(model_reference(answer))}\n"
        f"OUTPUT = {json.dumps(output)}\n"
        f"WIDTH = {width}\n\n"
        "tokenizer = AutoTokenizer.from_pretrained(MODEL)\n"
        f'model = {model}.from_pretrained(MODEL, dtype="auto")\n'
        'for mlp in (m for m in model.modules() if hasattr(m, "gate_proj")):\n'
        "    inward, outward = (mlp.gate_proj, mlp.up_proj), mlp.down_proj\n"
        "    strength = outward.weight.norm(dim=0)\n"
        "    for linear in inward:\n"
        "        strength = strength * linear.weight.norm(dim=1)\n"
        "    kept = strength.topk(WIDTH).indices.sort().values\n"
        "    for linear in inward:\n"
        "        linear.weight = torch.nn.Parameter(linear.weight.data[kept])\n"
        "        linear.out_features = WIDTH\n"
        "    outward.weight = torch.nn.Parameter(outward.weight.data[:, kept])\n"
        "    outward.in_features = WIDTH\n"
        "model.config.get_text_config().intermediate_size = WIDTH\n"
        "model.save_pretrained(OUTPUT)\n"
        "tokenizer.save_pretrained(OUTPUT)\n"
    )
