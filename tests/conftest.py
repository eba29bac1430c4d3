"""Settings of all tests: kernels are compiled here, unless FASTNN_LEVEL says otherwise.

Of the property-based ones: the same examples every time in CI, no limit on the time of one.
"""

import os

import hypothesis

os.environ.setdefault("FASTNN_LEVEL", "none")

hypothesis.settings.register_profile("fastnn", deadline=None, max_examples=25, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("fastnn")
