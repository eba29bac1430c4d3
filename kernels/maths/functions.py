"""The scalar maths of kernels, compiled for one dtype and target.

The functions are free of branches, so that a loop over them becomes vector code. The polynomials are Chebyshev fits,
made with mpmath (`chebyfit`, 50 digits) on the intervals named beside them. Maximum errors over all inputs, in units in
the last place of the dtype, are tested: see `MAX_ULP`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CellType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from kernels import maths

# Bounds of the largest error in ulp, subnormal results included. Found: 0.99, 0.87, 1.34 and 2.77 over every float32
# from 2^-14 to 2^7 in magnitude, with FMA and without; 0.96, 0.80, 1.23 and 1.56 over a million float64. Of expm1: 1.42
# and 1.81 over millions of numbers of either, with FMA.
MAX_ULP = {"exp": 1.0, "expm1": 2.0, "log": 1.1, "log1p": 1.0, "tanh": 1.5, "erf": 3.0}

SERIES: dict[str, dict[str, tuple[float, ...]]] = {
    "float32": {
        # (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2
        "exp": (
            0.500000001353872989, 0.16666666681704215, 0.0416664641974056923, 0.00833331084464786256,
            0.00139337307157920825, 0.00019891080463998842,
        ),
        # (tanh(x) / x - 1) / x^2 in x^2 on |x| <= 0.625
        "tanh": (
            -0.333333331721403616, 0.133333035569157418, -0.0539592595772045427, 0.0217689186510282102,
            -0.00834394551583915205, 0.00229274481617814234,
        ),
        # erf(x) / x in x^2 on |x| <= 1
        "erf": (
            1.12837916706154342, -0.376126384680287104, 0.112837824952368445, -0.0268654307276702429,
            0.0052210318078580228, -0.000848408040553510629, 0.00011265959025606609, -9.66704457148699642e-6,
        ),
        # erfc(x) exp(x^2) in (x - 2) / (x + 2) on 1 <= x <= 4
        "erfc": (
            0.255395676251903354, -0.427185847614343021, 0.241658211090724453, -0.0789785232725334919,
            0.00373214135130300974, 0.00699485541359995756, -0.000836589973648605783, -0.000944159634087273573,
        ),
        # (2 atanh(s) / s - 2) / s^2 in s^2, where s = f / (2 + f), sqrt(1/2) <= 1 + f <= sqrt(2)
        "log": (0.666666665540420124, 0.400001222118106494, 0.285507786331919654, 0.233316144718434992),
    },
    "float64": {
        "exp": (
            0.5, 0.166666666666666667, 0.0416666666666666769, 0.00833333333333333401, 0.00138888888888790031,
            0.000198412698412632519, 0.000024801587336630947, 2.75573192473445095e-6, 2.75572630773094115e-7,
            2.5052070959803662e-8, 2.09182123191339782e-9, 1.60866776667873615e-10,
        ),
        "tanh": (
            -0.333333333333333333, 0.133333333333333208, -0.0539682539682359013, 0.021869488535133222,
            -0.00886323549980199257, 0.00359212750759925223, -0.00145582839983032459, 0.000589981815838823207,
            -0.000238889446367511739, 0.0000960410915702626599, -0.0000370810692154423339,
            0.0000122099217901627817, -2.4388316314720878e-6,
        ),
        "erf": (
            1.12837916709551257, -0.376126389031837481, 0.112837916709548787, -0.0268661706450767932,
            0.00522397762481801447, -0.000854832698083378991, 0.000120553311116427109, -0.0000149255952668311816,
            1.6461000484121368e-6, -1.6350312701054695e-7, 1.46597752740474358e-8, -1.13728488567916737e-9,
            5.9571761477489114e-11,
        ),
        # in (x - 2.5) / (x + 2.5) on 1 <= x <= 6
        "erfc": (
            0.210806364061143581, -0.371736733948973369, 0.251713193217449375, -0.125033052378824686,
            0.0399225390755749339, -0.00399370116622315946, -0.00264236596378445305, 0.000875915463079450729,
            0.000228380365981531818, -0.000128877415363697358, -0.0000341820635498021673, 0.0000186170720819105961,
            7.55130177994425342e-6, -2.31409311509421767e-6, -1.79706306540687008e-6, 1.29669268253894164e-7,
            3.36570067362371038e-7,
        ),
        "log": (
            0.666666666666666665, 0.400000000000008832, 0.28571428570799785, 0.222222223925810451,
            0.181817955475211362, 0.153862447376216666, 0.132686383692668239, 0.130880348509275538,
        ),
    },
}  # fmt: skip


class Bits(NamedTuple):
    """What a target offers for one dtype."""

    power_of_two: Any  # (n): 2^n for a whole n whose result is normal
    exponent: Any  # (x): the whole e with sqrt(1/2) <= x / 2^e < sqrt(2), for x normal and positive
    scale: Any  # (x, e): x / 2^e for that e
    select: Any  # (condition, a, b): a or b with both computed, where Python's conditional expression would branch
    sqrt: Any  # (x), which math.sqrt makes a call of libm in Numba 0.63


@dataclass(frozen=True)
class Maths:
    """The functions of kernels.maths for one dtype and target, and rules over them."""

    real: Any
    compiled: Callable[..., Any]
    select: Any
    exp: Any
    expm1: Any
    exp_is_zero: Any
    log: Any
    log1p: Any
    tanh: Any
    erf: Any
    sqrt: Any
    _rules: dict[Callable[..., Any], Any] = field(default_factory=dict)

    def rule(self, function: Callable[..., Any]) -> Any:
        """A rule, see kernels.maths, for use inside kernels."""
        if getattr(maths, function.__name__, None) is function:
            return getattr(self, function.__name__)
        if function not in self._rules:
            self._rules[function] = self.compiled(_replaced(function, self._own))
        return self._rules[function]

    def _own(self, value: Any) -> Any:
        """What stands for a value of a rule's text: numbers of the dtype, functions of the target."""
        if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
            return np.dtype(str(self.real)).type(value)
        return self.rule(value) if isinstance(value, FunctionType) else value


def _replaced(function: Any, own: Callable[[Any], Any]) -> FunctionType:
    """A function with the same text, in which own(value) stands for each constant and each variable from outside."""
    code, outside = function.__code__, function.__globals__
    scope = {"__name__": __name__}  # of a module that whoever loads it from a cache can import
    scope |= {name: own(outside[name]) for name in code.co_names if name in outside}
    cells = tuple(CellType(own(cell.cell_contents)) for cell in function.__closure__ or ())
    code = code.replace(co_consts=tuple(own(value) for value in code.co_consts))
    defaults = tuple(own(value) for value in function.__defaults__ or ()) or None
    replaced = FunctionType(code, scope, function.__name__, defaults, cells)
    replaced.__module__ = __name__  # one that is there whenever cached machine code is loaded
    return replaced


def frozen(rule: Any) -> Any:
    """A copy of a program's rule that keeps what it reads from outside as that is now; one of our own as it is."""
    if rule.__module__.partition(".")[0] == maths.__name__.partition(".")[0]:
        return rule
    return _replaced(rule, lambda value: frozen(value) if isinstance(value, FunctionType) else value)


def functions(real: Any, compiled: Callable[..., Any], bits: Bits) -> Maths:
    """The maths for one dtype.

    real: numba.float32 or numba.float64. compiled: the decorator that makes a function callable from the backend's
    kernels.
    """
    dtype = str(real)
    c = np.dtype(dtype).type
    single = dtype == "float32"
    zero, half, one, two = c(0.0), c(0.5), c(1.0), c(2.0)
    infinity, nan = c(np.inf), c(np.nan)
    power_of_two, exponent, scale, select = bits.power_of_two, bits.exponent, bits.scale, bits.select
    series = {name: _horner(terms, c, compiled) for name, terms in SERIES[dtype].items()}
    exp_series, tanh_series, erf_series = series["exp"], series["tanh"], series["erf"]
    erfc_series, log_series = series["erfc"], series["log"]

    # Cody & Waite 1980: x = n ln 2 + r, with ln 2 in two parts so that n times the first is exact
    log2_e = c(1.4426950408889634)
    if single:
        ln2_high, ln2_low = c(0.693145751953125), c(1.4286068203094172e-06)
        round_magic = c(12582912.0)  # 1.5 * 2^23: adding it leaves a whole number in the low bits
        exp_least, expm1_least, exp_most = c(-104.0), c(-18.0), c(89.0)
        erf_centre, erf_one = c(2.0), c(4.0)
    else:
        ln2_high, ln2_low = c(0.69314718036912381649), c(1.9082149292705877e-10)
        round_magic = c(6755399441055744.0)
        exp_least, expm1_least, exp_most = c(-746.0), c(-38.0), c(710.0)
        erf_centre, erf_one = c(2.5), c(6.0)
    least_normal, to_normal = np.finfo(c).tiny, c(2.0**24 if single else 2.0**53)
    log_to_normal = c(math.log(to_normal))
    tanh_small = c(0.625)

    @compiled
    def reduced(x, least):
        """n and r of x = n ln 2 + r, of the nearest x from `least` to what overflows."""
        x = select(x < least, least, x)
        x = select(x > exp_most, exp_most, x)
        n = (x * log2_e + round_magic) - round_magic
        return n, (x - n * ln2_high) - n * ln2_low

    @compiled
    def exp(x):
        n, r = reduced(x, exp_least)
        p = one + (r + r * r * exp_series(r))
        n = select(x != x, zero, n)  # the bits below want a number; p is NaN already
        first = (n * half + round_magic) - round_magic  # two factors, so that subnormal results round once
        return (p * power_of_two(first)) * power_of_two(n - first)

    @compiled
    def expm1(x):
        n, r = reduced(x, expm1_least)
        p = r + r * r * exp_series(r)
        n = select(x != x, zero, n)
        s = power_of_two(n - one)  # half of 2^n, which may be too large
        return select(n == zero, p, two * (s * p + (s - half)))

    @compiled
    def log_of(v, lost):
        """The logarithm of v + lost, v normal and positive, lost at most half a unit in its last place."""
        e = exponent(v)
        f = scale(v, e) - one
        s = f / (two + f)
        w = s * s
        square = half * f * f
        return e * ln2_high + (f - (square - (s * (square + w * log_series(w)) + (e * ln2_low + lost / v))))

    @compiled
    def log(x):
        small = x < least_normal
        usable = (zero < x) & (x < infinity)
        v = select(usable, select(small, x * to_normal, x), one)
        log = log_of(v, zero) - select(small & usable, log_to_normal, zero)
        log = select(usable, log, select(x == zero, -infinity, select(x > zero, x, nan)))
        return select(x == x, log, x)

    @compiled
    def log1p(x):
        u = one + x
        lost = select(u > two, x - u, one - u) + select(u > two, one, x)  # what rounding 1 + x lost, exact
        usable = zero < u
        usable = usable & (u < infinity)
        v = select(usable, u, one)
        log = log_of(v, lost)
        log = select(u == one, x, log)
        log = select(usable, log, select(u == zero, -infinity, select(u > zero, u, nan)))
        return select(x == x, log, x)

    @compiled
    def tanh(x):
        a = abs(x)
        z = x * x
        near = x + x * (z * tanh_series(z))
        far = one - two / (exp(two * a) + one)
        far = select(x < zero, -far, far)
        return select(a < tanh_small, near, select(x == x, far, x))

    @compiled
    def erf(x):
        a = abs(x)
        z = x * x
        near = x * erf_series(z)
        b = select(a > erf_one, erf_one, a)
        far = one - exp(-(b * b)) * erfc_series((b - erf_centre) / (b + erf_centre))
        far = select(x < zero, -far, far)
        return select(a < one, near, select(x == x, far, x))

    @compiled
    def exp_is_zero(x):
        return x < exp_least

    return Maths(real, compiled, select, exp, expm1, exp_is_zero, log, log1p, tanh, erf, bits.sqrt)


def _horner(terms: tuple[float, ...], c: Any, compiled: Callable[..., Any]) -> Any:
    """The polynomial terms[0] + terms[1] x + ..., as one expression over constants of the dtype."""
    scope = {f"c{i}": c(term) for i, term in enumerate(terms)}
    text = f"c{len(terms) - 1}"
    for i in range(len(terms) - 2, -1, -1):
        text = f"(c{i} + x * {text})"
    exec(f"def polynomial(x):\n    return {text}", scope)
    return compiled(scope["polynomial"])
