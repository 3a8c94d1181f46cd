"""What every test needs."""

import warnings

with warnings.catch_warnings():
    # Its SWIG classes warn while they are made; as an error that ends the process (signal 11).
    warnings.simplefilter("ignore")
    import SimpleITK  # noqa: F401
