"""Attributes of compiled functions that speed and correctness hang on."""

from typing import Any


def mark(function: Any) -> None:
    """Give the attributes to an LLVM function that reads or writes memory by address.

    llvmlite lists neither of the two, but writes what the set holds.
    """
    # LLVM takes half of AVX-512's registers unless told otherwise: 25 % slower exp, the same relu
    set.add(function.attributes, '"prefer-vector-width"="512"')
    # An address is a sum. LLVM optimises an inlined function twice, and the first time it may have taken any term of
    # it for the pointer and the others for the offset. A term that turns out to be 0 is then a null pointer, and LLVM
    # believes that nobody uses one: it deleted a loop over layers that began with layer 0. On all functions the
    # attribute that forbids this costs 4 % of small steps.
    if "alwaysinline" in function.attributes:
        set.add(function.attributes, "null_pointer_is_valid")
