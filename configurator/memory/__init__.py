"""The memory terms, one file a term. Pure functions on numbers that broadcast (NumPy arrays)."""
