"""Settings of the property-based tests: the same examples every time in CI, no limit on the time of one."""

import os

import hypothesis

hypothesis.settings.register_profile("fastnn", deadline=None, max_examples=25, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("fastnn")
