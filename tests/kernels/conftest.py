"""Settings of the property-based tests: the same examples every time in CI, no limit on the time of one.

And the order of the tests: first those that read assembly, which compile many of the kernels that the others need.
"""

import os

import hypothesis

hypothesis.settings.register_profile("kernels", deadline=None, max_examples=25, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("kernels")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: "elementwise_kernels" not in getattr(item, "fixturenames", ()))
