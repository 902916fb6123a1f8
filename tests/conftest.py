"""Settings that every test shares."""

from hypothesis import HealthCheck, settings

# Timing is measured in benchmarks/, never as a test; a busy machine must not fail a property.
settings.register_profile(
    "steady", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("steady")
