"""The kinds of layers that networks are made of, a module each."""

from kernels.layers.declaration import Activated, Layer
from kernels.layers.dense import Dense
from kernels.layers.dropout import Dropout
from kernels.layers.normalization import NORMS, Normalization

__all__ = ["NORMS", "Activated", "Dense", "Dropout", "Layer", "Normalization"]

NORMS.load(__name__, __path__)
