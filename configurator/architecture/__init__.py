"""What a model is made of: config.json → layers, each with its weight matrices and its cache.

Everything else (parameters, bytes, FLOP, cache, LoRA adapters, activations) is a sum over the
tables built here, so a model is described once. Shapes follow the checkpoints' own layout
(Hugging Face ``modeling_*.py`` of each family).
"""

from configurator.architecture.build import read_architecture
from configurator.architecture.model import Architecture
from configurator.architecture.quantization import Quantization
from configurator.architecture.reader import MAX_DIMENSION, MAX_LAYERS
from configurator.architecture.tables import (
    AttentionKind,
    Cache,
    Layer,
    LayerGroup,
    LoraModule,
    Matrix,
    NormKept,
    Role,
    Shard,
)
from configurator.architecture.typical import typical_architecture

__all__ = [
    "MAX_DIMENSION",
    "MAX_LAYERS",
    "Architecture",
    "AttentionKind",
    "Cache",
    "Layer",
    "LayerGroup",
    "LoraModule",
    "Matrix",
    "NormKept",
    "Quantization",
    "Role",
    "Shard",
    "read_architecture",
    "typical_architecture",
]
