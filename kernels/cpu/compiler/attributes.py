"""What LLVM is told of functions beside their code: how wide vectors are, what pointers and floats may be."""

from typing import Any

# Numba's fast-math flags, by LLVM's names. `reassoc` would break the error-free reductions in exp, and `nnan` and
# `ninf` would fold isnan away: NaN and Inf keep their meaning everywhere. `contract` lets a * b + c become one FMA.
FASTMATH = {"nsz", "arcp", "contract", "afn"}
OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": FASTMATH}

# LLVM takes half of AVX-512's registers unless told otherwise
WIDE = '"prefer-vector-width"="512"'
# An address is a sum, and in an inlined function, which LLVM optimises twice, it may have taken any of the terms for
# the pointer and the others for the offset. A term that turns out to be 0 is then a null pointer, whose use LLVM
# believes never to happen: it deleted a loop over layers that began with layer 0. On all functions the attribute costs
# 4 % of small steps.
NULL_IS_VALID = "null_pointer_is_valid"


def pointer_of(builder: Any, address: Any, kind: Any) -> Any:
    """Write the pointer to what is at an address; an inlined function must have been declared as one that does so."""
    attributes = builder.function.attributes
    if "alwaysinline" in attributes and NULL_IS_VALID not in attributes:
        raise TypeError(f"{builder.function.name} makes pointers: declare it by jit.inline, not by jit.plain")
    return builder.inttoptr(address, kind)
