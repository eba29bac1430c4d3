"""`fastnn evaluate`: a saved model's metrics on DATA."""

from argparse import ArgumentParser, Namespace

from fastnn.cli import arguments, models, report
from fastnn.cli.checks import targets_of
from fastnn.tables.data import load


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    arguments.add_model(parser)
    parser.add_argument(
        "data", metavar="DATA", type=arguments.path, help=f"raw rows with their targets: {arguments.DATA_HELP}"
    )
    arguments.add_targets(parser)
    arguments.add_precision(parser, None)


def run(args: Namespace) -> None:
    """Print the loss and the metrics."""
    model, preprocessing, target = models.load(args)
    data = load(args.data, args.targets, target=target.name, part="test", text_target=target.text)
    y = target.encode(targets_of(data), data.where_target)
    preprocessing.warn_of_new(data.inputs)
    metrics = models.measure(model, target, preprocessing.transform(data.inputs), y)
    report.line("data", f"{data.source}: {len(data):,} rows")
    report.metrics("metrics", metrics)
