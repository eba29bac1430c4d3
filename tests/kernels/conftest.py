"""The order of the tests: first those that read assembly, which compile many of the kernels that the others need."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: "elementwise_kernels" not in getattr(item, "fixturenames", ()))
