"""What a call tells compiled kernels by a number, on every device, and what all engines say alike."""

import numpy as np

IDENTITY, SIGMOID, SOFTMAX, EXP = 0, 1, 2, 3  # the output activation
OUTPUTS = {"identity": IDENTITY, "sigmoid": SIGMOID, "softmax": SOFTMAX, "exp": EXP}

NO_METRIC, LARGEST_IS_LABEL, LARGEST_IS_LARGEST, ALL_OUTPUTS = 0, 1, 2, 3  # what makes a row right
METRICS = {None: NO_METRIC, "label": LARGEST_IS_LABEL, "largest": LARGEST_IS_LARGEST, "outputs": ALL_OUTPUTS}

ROW_NUMBER = np.uint32  # what `order`, the numbers of the rows to take, holds

WRONG_LABEL = "labels must stay from 0 to {} while they are read, but that of row {} had been changed"
