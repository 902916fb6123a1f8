"""How fast: serving and training speed, with 90 % intervals (roofline × measured efficiency)."""

from configurator.performance.serving import ServingSpeed, Speculative, serving_speed
from configurator.performance.training import TrainingSpeed, training_speed

__all__ = ["ServingSpeed", "Speculative", "TrainingSpeed", "serving_speed", "training_speed"]
