"""Arithmetic that gives the same bits on every machine, compiled and vectorised by Numba.

The C library's and NumPy's `exp` and `log` differ in the last bit from one processor to another. These use IEEE
additions, multiplications and square roots alone (single precision, relative error below 3e-7), so that a simulated
fleet has the same digest everywhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fleetcast.compiling import compiled, inlined

F = np.float32
_I = np.int32
_LOG2E, _LN2_HIGH, _LN2_LOW = F(1.4426950408889634), F(0.693145751953125), F(1.428606765330187e-06)
_ROUND = F(12582912.0)  # 1.5 x 2^23: adding it leaves the nearest integer in the low bits
_ROUND_BITS = _I(F(12582912.0).view(np.int32))
_SMALLEST, _LARGEST = F(-80), F(80)
_SQRT_HALF_BITS = _I(0x3F3504F3)
_MANTISSA = _I(23)


def _typed(function: Any) -> Any:
    """For the type checker, which does not know that Numba passes the first argument of an intrinsic."""
    return function


@_typed
@intrinsic
def _bits(_typing: Any, number: Any) -> Any:
    """The bits of a float32 as an int32."""
    return types.int32(types.float32), lambda c, builder, s, args: builder.bitcast(args[0], ir.IntType(32))


@_typed
@intrinsic
def _from_bits(_typing: Any, number: Any) -> Any:
    """The float32 that has these bits (int32)."""
    return types.float32(types.int32), lambda c, builder, s, args: builder.bitcast(args[0], ir.FloatType())


@inlined
def expf(x: Any) -> Any:
    """e^x of a float32, the argument held within +-80 (range reduction and polynomial as in Cephes `expf`)."""
    x = max(x, _SMALLEST)
    x = min(x, _LARGEST)
    shifted = x * _LOG2E + _ROUND
    power = shifted - _ROUND
    r = x - power * _LN2_HIGH - power * _LN2_LOW
    p = F(0.0013930436922237) * r + F(0.0083333430811763)
    p = p * r + F(0.041666485369205)
    p = p * r + F(0.16666667163372)
    p = p * r + F(0.5)
    p = p * r + F(1)
    p = p * r + F(1)
    return _from_bits(_I(_bits(p) + ((_bits(shifted) - _ROUND_BITS) << _MANTISSA)))


@compiled
def logf(x: Any) -> Any:
    """Natural logarithm of a positive normal float32 (polynomial as in Cephes `logf`)."""
    bits = _bits(x)
    exponent = _I(_I(bits - _SQRT_HALF_BITS) >> _MANTISSA)
    f = _from_bits(_I(bits - (exponent << _MANTISSA))) - F(1)
    z = f * f
    y = F(7.0376836292e-2) * f - F(1.1514610310e-1)
    y = y * f + F(1.1676998740e-1)
    y = y * f - F(1.2420140846e-1)
    y = y * f + F(1.4249322787e-1)
    y = y * f - F(1.6668057665e-1)
    y = y * f + F(2.0000714765e-1)
    y = y * f - F(2.4999993993e-1)
    y = y * f + F(3.3333331174e-1)
    y = y * f * z
    e = F(exponent)
    y = y + e * F(-2.12194440e-4)
    y = y - F(0.5) * z
    return f + y + e * F(0.693359375)


@compiled
def powf(base: Any, exponent: Any) -> Any:
    """base^exponent of float32 numbers, 0 for a base that is not above 0."""
    return expf(exponent * logf(base)) if base > F(1e-30) else F(0)


@inlined
def limited(x: Any, knee: Any, ceiling: Any) -> Any:
    """x up to `knee`; beyond it approaches `ceiling` (a hyperbola with slope 1 at the knee) and never reaches it."""
    room = ceiling - knee
    excess = max(x - knee, F(0))
    return min(x, knee) + room * excess / (room + excess)


@compiled
def normal_pair(first: Any, second: Any) -> Any:
    """Two independent standard normal float32 from two uniform uint32 words (Box and Muller 1958)."""
    u = (F(_I(first >> np.uint32(9))) + F(0.5)) * F(1.1920928955078125e-07)
    radius = F(math.sqrt(F(-2) * logf(u)))
    quadrant = _I(second >> np.uint32(30))
    angle = (F(_I((second >> np.uint32(6)) & np.uint32(0xFFFFFF))) - F(8388607.5)) * F(9.3626805e-08)  # +-pi/4
    z = angle * angle
    sine = ((F(-1.9515295891e-4) * z + F(8.3321608736e-3)) * z - F(1.6666654611e-1)) * z * angle + angle
    cosine = F(2.443315711809948e-5) * z - F(1.388731625493765e-3)
    cosine = (cosine * z + F(4.166664568298827e-2)) * z * z - F(0.5) * z + F(1)
    turned = (quadrant & _I(1)) != 0
    one, other = (cosine, sine) if turned else (sine, cosine)
    one = -one if (quadrant & _I(2)) != 0 else one
    other = -other if (_I(quadrant + _I(1)) & _I(2)) != 0 else other
    return radius * other, radius * one
