"""What is answered: the estimate, and the one function that makes it."""

from configurator.estimate.answer import estimate
from configurator.estimate.asked import (
    architecture_of,
    device_of,
    held_memory,
    memory_interval,
    running_engine,
    served_precisions,
)
from configurator.estimate.records import Estimate, Input, Kv, Memory, Notice, Performance, Term

__all__ = [
    "Estimate", "Input", "Kv", "Memory", "Notice", "Performance", "Term",
    "architecture_of", "device_of", "estimate", "held_memory", "memory_interval",
    "running_engine", "served_precisions",
]  # fmt: skip
