"""Activations of a program's own."""

from kernels.activations import Activation as Activation
