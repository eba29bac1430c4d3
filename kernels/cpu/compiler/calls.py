"""Calls of kernels out of compiled code: by a symbol, or of what is at an address."""

from collections.abc import Callable
from typing import Any, Protocol

from kernels import deferred
from kernels.cpu.compiler.declaration import types_of
from kernels.deferred import cgutils, intrinsic, ir, types

matrix = deferred.module("kernels.cpu.compiler.matrix")


class Target(Protocol):
    """A kernel, as its callers know it."""

    symbol: str
    family: Any

    @property
    def types(self) -> tuple[Any, tuple[Any, ...]]:
        """(what it returns, its arguments' types), as Numba has them."""

    def link(self) -> None:
        """Make the symbol known to the linker."""


def caller(target: Target) -> Callable[..., Any]:
    """An intrinsic that calls a kernel by its symbol from compiled code, cached or not."""

    def function(context: Any, builder: Any, fnty: Any) -> Any:
        return _declare(target, context, builder, fnty)

    return _call(target.family.name, *target.types, function)


def address(target: Target) -> Any:
    """An intrinsic f() that returns a kernel's address, by its symbol: for compiled code that may be cached."""

    @intrinsic
    def kernel_address(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            function = _declare(target, context, builder, ir.FunctionType(ir.VoidType(), []))
            return builder.ptrtoint(function, ir.IntType(64))

        return types.int64(), codegen

    return kernel_address


def travelling(constant: Any) -> Any:
    """An intrinsic f() that does nothing but let a constant travel with the caller's cache entry, see jit.py."""

    @intrinsic
    def travel(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            context.environment.consts.append(constant)
            return context.get_dummy_value()

        return types.void(), codegen

    return travel


def _declare(target: Target, context: Any, builder: Any, fnty: Any) -> Any:
    target.link()
    context.environment.consts.append(target)  # travels with the caller's cache entry, see jit.py
    return cgutils.get_or_insert_function(builder.module, fnty, target.symbol)


def by_address(like: type, real: Any) -> Callable[..., Any]:
    """An intrinsic f(address, *arguments) that calls the kernel at an address, which the protocol `like` declares."""
    return _call("at_address", *types_of(like, real), None)


def _call(name: str, restype: Any, argtypes: tuple[Any, ...], function: Callable[..., Any] | None) -> Any:
    """An intrinsic that calls what `function` declares, or, without it, what is at the address in its first
    argument. Matrices are given as single words, see declaration.py."""
    argtypes = matrix.flat(argtypes)
    parameters = argtypes if function else (types.int64, *argtypes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = [
            context.cast(builder, value, given, wanted)
            for value, given, wanted in zip(args, sig.args, parameters, strict=True)
        ]
        fnty = ir.FunctionType(
            ir.VoidType() if restype == types.void else context.get_value_type(restype),
            [context.get_value_type(t) for t in argtypes],
        )
        if function:
            result = builder.call(function(context, builder, fnty), values)
        else:
            result = builder.call(builder.inttoptr(values[0], fnty.as_pointer()), values[1:])
        return context.get_dummy_value() if restype == types.void else result

    return intrinsic_of(name, restype(*parameters), codegen)


def intrinsic_of(name: str, signature: Any, codegen: Callable[..., Any]) -> Any:
    """An intrinsic of one signature."""

    def typing(typingctx: Any) -> Any:
        return signature, codegen

    # an intrinsic's typing function has as many named parameters as the call has arguments
    names = ", ".join(f"a{i}" for i in range(len(signature.args)))
    scope: dict[str, Any] = {"typing": typing}
    exec(f"def {name}(typingctx, {names}):\n    return typing(typingctx)", scope)
    return intrinsic(scope[name])
