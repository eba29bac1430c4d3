"""The recipes: four articles that build a network from nothing in NumPy, here as short scripts on fastnn.

Each is a module with `main(argv) -> int | None`, run as `fastnn recipe NAME`.
"""

RECIPES = {"xor": "xor", "moons": "moons", "breast-cancer": "breast_cancer", "digits": "digits"}  # name -> module
