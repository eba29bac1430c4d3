"""What is read and written: model files, arrays, ONNX, PyTorch; and what all reading and writing of files shares."""

from fastnn.files.read import CHUNK, LONGEST_LINE, BoundedReader, DataError, open_file, read_exactly, reading
from fastnn.files.write import append, replace

__all__ = [
    "CHUNK",
    "LONGEST_LINE",
    "BoundedReader",
    "DataError",
    "append",
    "open_file",
    "read_exactly",
    "reading",
    "replace",
]
