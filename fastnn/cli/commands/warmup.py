"""`fastnn warmup`: the kernels compiled into the cache."""

from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--dtype", nargs="+", choices=["float32", "float64"], default=["float32"], help="for which (default float32)"
    )


def run(args: Namespace) -> None:
    """Compile, and print how long it took."""
    from kernels import backends, devices

    used = {"cpu", devices.device("auto")}
    seconds = sum(backends.package(device).warmup(dtypes=tuple(args.dtype)) for device in sorted(used))
    print(f"kernels for {' and '.join(args.dtype)} are ready after {seconds:.1f} s")
