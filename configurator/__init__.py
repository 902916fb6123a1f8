"""GPU Configurator: how much GPU memory a language model takes, on what, and for how much money."""

__version__ = "0.1.0"
