"""The commands of the command line.

Each is a module with `add_arguments(parser)` and `run(args) -> int | None`, which does what the command is for and may
return an exit code.
"""

COMMANDS = {
    "train": "train a network on DATA and save it",
    "predict": "what a saved model says about DATA, as a CSV",
    "evaluate": "how well a saved model does on DATA",
    "recipe": "run an example; without NAME, list them",
    "info": "what fastnn runs on: device, vector width, threads, cache, versions",
    "warmup": "compile the kernels now, so that no training waits for it",
}  # name of the module -> help
