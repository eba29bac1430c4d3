"""The words by which what kernels take and read is declared."""

from typing import Annotated, Any

Offset = Annotated[int, "where something begins in an array, in elements"]
Stride = Annotated[int, "elements from one row, or one part, to the next"]
Size = Annotated[int, "a number of rows, columns, steps, ..."]
Code = Annotated[int, "one of a list of constants"]
Flag = Annotated[int, "1 for yes, 0 for no"]
Real = Annotated[Any, "a number of the kernel's real type; in `rows`, also an array of one for each row"]
