"""The losses, one module each: what it declares is all that there is to write, see declaration.py."""

from kernels.losses.declaration import LOSSES, Loss, LossChoice, Parameter, Targets, loss_and_parameter, names_for

__all__ = ["LOSSES", "Loss", "LossChoice", "Parameter", "Targets", "loss_and_parameter", "names_for"]

LOSSES.load(__name__, __path__)
