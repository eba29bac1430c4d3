"""`fastnn recipe`: the recipes of fastnn.recipes, which have command lines of their own."""

import importlib
from argparse import REMAINDER, ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="which one")
    parser.add_argument("arguments", metavar="...", nargs=REMAINDER, help="its own; NAME --help tells them")


def run(args: Namespace) -> int | None:
    """Hand over to a recipe, or list all."""
    from fastnn.recipes import RECIPES

    if args.name is None:
        print("\n".join(RECIPES))
        return None
    if args.name not in RECIPES:
        raise ValueError(f"no recipe {args.name!r}: the recipes are {', '.join(RECIPES)}")
    return importlib.import_module(f"fastnn.recipes.{RECIPES[args.name]}").main(args.arguments)
