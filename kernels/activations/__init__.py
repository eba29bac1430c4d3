"""Activations, one module each. `ACTIVATIONS` has their declarations by name or alias."""

from kernels.activations.declaration import ACTIVATIONS as ACTIVATIONS
from kernels.activations.declaration import Activation as Activation

ACTIVATIONS.load(__name__, __path__)
