"""Checkpoints made from another: quantised weights, narrower layers."""

from __future__ import annotations

import json

from configurator.estimate import Estimate
from configurator.export.shell import DTYPES, file_stem, model_reference, note

# Of LLM Compressor; vLLM and SGLang load what it makes.
SCHEMES = {"fp8": "FP8_DYNAMIC", "int8": "W8A16", "int4": "W4A16", "nvfp4": "NVFP4"}


def is_native(answer: Estimate) -> bool:
    """Whether the checkpoint itself is stored at the precision asked for."""
    arch = answer.architecture
    own = arch.quantization.precision if arch.quantization else arch.native_precision
    return answer.precision == own


def checkpoint_note(answer: Estimate) -> str:
    """Say that a quantised checkpoint is needed where the engine cannot quantise on loading."""
    loads = {"vllm": ("fp8", "nf4"), "sglang": ("fp8",)}.get(answer.scenario.engine, ())
    if answer.precision in (*DTYPES, *loads) or is_native(answer):
        return ""
    return note(
        f"Needs a checkpoint quantised to {answer.precision}: take a published one or make it "
        f"with quantize.py, and name its folder here."
    )


def quantize_script(answer: Estimate, precision: str) -> str:
    """Return a script that makes a checkpoint of ``fp8``, ``int8``, ``int4`` or ``nvfp4``.

    Raises:
        KeyError: LLM Compressor has no scheme for the precision.
    """
    scheme = SCHEMES[precision]
    calibrated = precision in ("int4", "nvfp4")
    kind = "GPTQModifier" if precision == "int4" else "QuantizationModifier"
    module = "gptq" if precision == "int4" else "quantization"
    samples = (
        '    dataset="open_platypus",\n    num_calibration_samples=512,\n    max_seq_length=2048,\n'
        if calibrated
        else ""
    )
    return (
        f'"""Quantise the weights to {precision}; vLLM and SGLang load the result."""\n\n'
        "from llmcompressor import oneshot\n"
        f"from llmcompressor.modifiers.{module} import {kind}\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"MODEL = {json.dumps(model_reference(answer))}\n"
        f"OUTPUT = {json.dumps(f'{file_stem(answer)}-{precision}')}\n\n"
        "tokenizer = AutoTokenizer.from_pretrained(MODEL)\n"
        'model = AutoModelForCausalLM.from_pretrained(MODEL, dtype="auto")\n'
        "oneshot(\n"
        "    model=model,\n"
        "    tokenizer=tokenizer,\n"
        f'    recipe={kind}(targets="Linear", scheme={json.dumps(scheme)}, ignore=["lm_head"]),\n'
        f"{samples}"
        ")\n"
        "model.save_pretrained(OUTPUT, save_compressed=True)\n"
        "tokenizer.save_pretrained(OUTPUT)\n"
    )


def prune_script(answer: Estimate, output: str, width: int) -> str:
    """Return a script that takes the weakest channels out of every gated MLP.

    Channels are ranked by the product of their three norms; what is left must be trained again.

    Args:
        answer: Of the whole model.
        output: Folder of the narrower one.
        width: Channels that stay in each MLP.
    """
    return (
        '"""Take the weakest channels out of every MLP; train the result again before use."""\n\n'
        "import torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"MODEL = {json.dumps(model_reference(answer))}\n"
        f"OUTPUT = {json.dumps(output)}\n"
        f"WIDTH = {width}\n\n"
        "tokenizer = AutoTokenizer.from_pretrained(MODEL)\n"
        'model = AutoModelForCausalLM.from_pretrained(MODEL, dtype="auto")\n'
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
