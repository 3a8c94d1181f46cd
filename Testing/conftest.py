"""What every test needs."""

import os
import warnings

# Each worker of pytest has a core: threads beside its own would wait for the other workers'.
os.environ.setdefault("OMP_NUM_THREADS", "1")

with warnings.catch_warnings():
    # Its SWIG classes warn while they are made; as an error that ends the process (signal 11).
    warnings.simplefilter("ignore")
    import SimpleITK  # noqa: F401

from hypothesis import HealthCheck, settings

# How long an example takes to draw says how busy the machine is, and nothing of the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
