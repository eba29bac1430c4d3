"""Memory by address inside kernels: pointers, atomics, calls through a pointer."""

from typing import Any

from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.attributes import pointer_of
from kernels.cpu.ir import system
from kernels.deferred import cgutils, intrinsic, ir, types


def pointer(dtype: Any) -> Any:
    """An intrinsic: address (int64) -> pointer to `dtype`, a type of Numba's or its name, indexed as p[i] unbounded."""

    @intrinsic
    def as_pointer(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return pointer_of(builder, args[0], context.get_value_type(sig.return_type))

        return types.CPointer(getattr(types, str(dtype)))(types.int64), codegen

    return as_pointer


def apart(real: Any, n: int) -> list[tuple[Any, Any]]:
    """Two intrinsics for each of n arrays of `real`: read(address, i), and write(address, i, value).

    No two of the arrays overlap, which LLVM is told: it compares the addresses of few arrays alone by itself.
    """
    return [(_reader(real, k, n), _writer(real, k, n)) for k in range(n)]


def _reader(real: Any, k: int, n: int) -> Any:
    @intrinsic
    def read(typingctx: Any, address: Any, i: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            found = builder.load(_element(context, builder, real, args))
            _tell_apart(builder, found, k, n)
            return found

        return real(types.int64, types.int64), codegen

    return read


def _writer(real: Any, k: int, n: int) -> Any:
    @intrinsic
    def write(typingctx: Any, address: Any, i: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            _tell_apart(builder, builder.store(args[2], _element(context, builder, real, args)), k, n)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, real), codegen

    return write


def _element(context: Any, builder: Any, real: Any, args: Any) -> Any:
    """The pointer to element args[1] of the array at args[0]."""
    return builder.gep(pointer_of(builder, args[0], context.get_value_type(real).as_pointer()), [args[1]])


def _tell_apart(builder: Any, access: Any, k: int, n: int) -> None:
    """Say of a load or store that it is of array k and of none of the other n - 1."""
    module = builder.module
    domain = module.add_metadata([ir.MetaDataString(module, "fastnn arrays")])
    scopes = [module.add_metadata([ir.MetaDataString(module, f"array {i}"), domain]) for i in range(n)]
    access.set_metadata("alias.scope", module.add_metadata([scopes[k]]))
    access.set_metadata("noalias", module.add_metadata([scope for i, scope in enumerate(scopes) if i != k]))


@intrinsic
def fetch_add(typingctx: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at an address; returns what was there before. Sequentially consistent."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _int64_pointer(builder, args[0]), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def load(typingctx: Any, address: Any) -> Any:
    """The int64 at an address, with acquire order."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_int64_pointer(builder, args[0]), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def store(typingctx: Any, address: Any, value: Any) -> Any:
    """Write the int64 at an address, sequentially consistent."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[1], _int64_pointer(builder, args[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def compare_and_swap(typingctx: Any, address: Any, expected: Any, value: Any) -> Any:
    """Write value to the int64 at an address if it is `expected`; whether it was. Sequentially consistent."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _int64_pointer(builder, args[0])
        return builder.extract_value(builder.cmpxchg(pointer, args[1], args[2], "seq_cst", "seq_cst"), 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def stack(typingctx: Any, size: Any) -> Any:
    """The 64-byte-aligned address of `size` bytes (a literal) on this function's stack."""
    if not isinstance(size, types.IntegerLiteral):
        return None
    length = size.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        with builder.goto_entry_block():
            block = builder.alloca(ir.ArrayType(ir.IntType(8), length))
            block.align = 64
        return builder.ptrtoint(block, ir.IntType(64))

    return types.int64(size), codegen


@intrinsic
def address_of(typingctx: Any, values: Any) -> Any:
    """The address of a tuple's values, on this function's stack."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(cgutils.alloca_once_value(builder, args[0]), ir.IntType(64))

    return types.int64(values), codegen


@intrinsic
def pause(typingctx: Any) -> Any:
    """Tell the core that this is a spin loop (x86 only; nothing elsewhere)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if builder.module.triple.startswith("x86_64"):
            fnty = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, fnty, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def yield_core(typingctx: Any) -> Any:
    """Let another thread have the core."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.call(
            cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), system.YIELD), []
        )
        return context.get_dummy_value()

    return types.void(), codegen


def _of_system(symbol: str, *constants: int, returns: bool = False) -> Any:
    """An intrinsic f(int64) that calls a function of system.py."""

    @intrinsic
    def call(typingctx: Any, argument: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            i32, i64 = ir.IntType(32), ir.IntType(64)
            fnty = ir.FunctionType(i64 if returns else ir.VoidType(), [i64, *[i32] * len(constants)])
            function = cgutils.get_or_insert_function(builder.module, fnty, symbol)
            result = builder.call(function, [*args, *(ir.Constant(i32, n) for n in constants)])
            return result if returns else context.get_dummy_value()

        return (types.int64 if returns else types.void)(types.int64), codegen

    return call


acquire = _of_system(system.ACQUIRE, 1)
release = _of_system(system.RELEASE)
allocate = _of_system(system.ALLOCATE, returns=True)  # bytes -> address, 0 where there is no memory
free = _of_system(system.FREE)


@jit.plain
def wait(spins):
    """One turn of a spin loop: a pause at first, the core given away after a while. Returns spins + 1."""
    if spins < tuning.PAUSES:
        pause()
    else:
        yield_core()
    return spins + 1


def _int64_pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, ir.IntType(64).as_pointer())
