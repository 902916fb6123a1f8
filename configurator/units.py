"""Units used at the engine's edge. Inside it everything is bytes, seconds, FLOP."""

MIB = 1 << 20
GIB = 1 << 30
GB = 10**9
HOURS_PER_YEAR = 8760
