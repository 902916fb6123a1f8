import pytest

from configurator.architecture import read_architecture
from configurator.errors import InputError
from configurator.parallelism import (
    Split,
    check_split,
    choose_split,
    last_stage_layers,
    legal_tensor_sizes,
    tensor_problem,
)
from configurator.recommend.candidates import PIPELINE_SIZES, split_rules
from configurator.scenario import parse_scenario

LLAMA_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "tie_word_embeddings": False,
}  # fmt: skip
MOE = {
    **LLAMA_8B, "model_type": "qwen3_moe", "num_experts": 128, "num_experts_per_tok": 8,
    "moe_intermediate_size": 1536,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}  # fmt: skip


def arch(config):
    return read_architecture(config, "test")


def scenario(**hardware):
    return parse_scenario(
        {"model": {"config": LLAMA_8B}, "hardware": {"gpu": "h100-sxm", **hardware}}
    )


def test_heads_must_divide():
    assert legal_tensor_sizes(arch(LLAMA_8B), 8) == (1, 2, 4, 8)
    assert "32 attention heads" in str(tensor_problem(arch(LLAMA_8B), 3))


def test_key_value_heads_and_mlp_must_divide():
    phi = arch({**LLAMA_8B, "num_attention_heads": 40, "num_key_value_heads": 10,
                "hidden_size": 5120})  # fmt: skip
    assert "10 key-value heads" in str(tensor_problem(phi, 4))
    assert tensor_problem(phi, 2) is None
    one = arch({**LLAMA_8B, "num_key_value_heads": 1})
    assert tensor_problem(one, 8) is None
    narrow = arch({**LLAMA_8B, "intermediate_size": 14338})
    assert "MLP width 14338" in str(tensor_problem(narrow, 4))


def test_fp8_blocks_limit_the_expert_split():
    model = arch(MOE)
    assert tensor_problem(model, 4) is None
    assert "FP8 blocks" in str(tensor_problem(model, 8))
    assert tensor_problem(model, 8, expert=8) is None


@pytest.mark.parametrize(
    ("split", "field"),
    [
        (Split(tensor=3), "hardware.tensor_parallel"),
        (Split(pipeline=33), "hardware.pipeline_parallel"),
        (Split(expert=2), "hardware.expert_parallel"),
        (Split(tensor=8, data=2), "hardware.gpu_count"),
    ],
)
def test_illegal_split_names_the_field(split, field):
    with pytest.raises(InputError) as caught:
        check_split(arch(LLAMA_8B), split, 8, "vllm")
    assert caught.value.field == field


def test_megatron_takes_no_pipeline_with_an_empty_stage():
    model = arch(LLAMA_8B)  # 32 layers: 7 stages of 5 leave 2, 12 of 3 leave none
    check_split(model, Split(pipeline=7), 7, "megatron")
    check_split(model, Split(pipeline=12), 12, "vllm")
    with pytest.raises(InputError) as caught:
        check_split(model, Split(pipeline=12), 12, "megatron")
    assert "32 layers over 12 stages" in caught.value.text("en")
    sizes = split_rules(model, "megatron", training=True).pipelines
    assert sizes == tuple(s for s in PIPELINE_SIZES if last_stage_layers(32, s) > 0)
    assert 12 not in sizes


def test_absent_split_is_filled():
    model = arch(LLAMA_8B)
    assert choose_split(scenario(gpu_count=8), model, 8) == Split(tensor=8)
    assert choose_split(scenario(gpu_count=16), model, 8) == Split(tensor=8, pipeline=2)
    assert choose_split(scenario(gpu_count=8, tensor_parallel=2), model, 8).gpus == 8
    assert choose_split(scenario(gpu_count=8, data_parallel=4), model, 8) == Split(tensor=2, data=4)
    training = parse_scenario(
        {
            "model": {"config": LLAMA_8B},
            "task": "training",
            "hardware": {"gpu": "h100-sxm", "gpu_count": 8},
        }
    )
    assert choose_split(training, model, 8) == Split(data=8)
