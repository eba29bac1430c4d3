"""What the driver is asked for: the GPU's facts, streams, arrays, errors."""
