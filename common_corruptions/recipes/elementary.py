"""Elementary functions that give the same bits on every processor.

The C library and NumPy choose their code for exp, log, sine and cosine by the processor, and the last bit of a
result depends on this choice. So everything that determines an image is computed here from additions, multiplications,
divisions and powers of two only, as single array operations: IEEE 754 rounds these the same everywhere. Results are
correct to about one unit in the last place of double precision.
"""

import math

import numpy as np

LN2 = (float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33"))
HALF_PI = (
    float.fromhex("0x1.921fb544p+0"),
    float.fromhex("0x1.0b4611a6p-34"),
    float.fromhex("0x1.3198a2e037073p-69"),
)  # leading parts with few bits, so that their product with a small integer is exact

EXP = [1 / math.factorial(n) for n in range(14)]
LOG = [1 / (2 * n + 1) for n in range(12)]
SINE = [(-1) ** n / math.factorial(2 * n + 1) for n in range(9)]
COSINE = [(-1) ** n / math.factorial(2 * n) for n in range(10)]

FARTHEST = 8.5  # standard deviations; the tail beyond is negligible in double precision


def exp(x: np.ndarray) -> np.ndarray:
    """e to the power of float64 `x`, for x below 700; 0 where it would be subnormal."""
    rest = np.maximum(x, -708.0)
    halvings = np.rint(rest * (1 / math.log(2)))
    _reduce(rest, halvings, LN2)
    power = _polynomial(EXP, rest)
    np.ldexp(power, halvings.astype(np.int32), out=power)
    power[x <= -708.0] = 0.0
    return power


def log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm of float64 `x`, positive."""
    fraction, exponent = np.frexp(x)
    small = fraction < math.sqrt(0.5)
    np.ldexp(fraction, small.astype(np.int32), out=fraction)
    exponent -= small
    ratio: np.ndarray = fraction - 1
    fraction += 1
    ratio /= fraction
    np.multiply(ratio, ratio, out=fraction)
    ratio *= 2
    ratio *= _polynomial(LOG, fraction)
    np.multiply(exponent, LN2[1], out=fraction)
    ratio += fraction
    np.multiply(exponent, LN2[0], out=fraction)
    ratio += fraction
    return ratio


def cos_sin(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of `x`, in radians, up to a thousand turns either way."""
    rest = x.copy()
    quarters = np.rint(x * (2 / math.pi))
    _reduce(rest, quarters, HALF_PI)
    square = rest * rest
    rest *= _polynomial(SINE, square)
    cosine = _polynomial(COSINE, square)
    quarter = quarters.astype(np.int8) & 3
    odd = (quarter & 1).view(bool)
    cosine, sine = np.where(odd, rest, cosine), np.where(odd, cosine, rest)
    cosine *= 1 - ((quarter + 1) & 2)  # the sign
    sine *= 1 - (quarter & 2)
    return cosine, sine


def _reduce(x: np.ndarray, count: np.ndarray, parts: tuple[float, ...]) -> None:
    """Subtract `count` times the sum of `parts` from x, in place."""
    for part in parts:
        x -= count * part


def normal_cdf(x: np.ndarray) -> np.ndarray:
    """P(X <= x) for a standard normal X; absolute error below 1e-15.

    Uses the series phi(x) (x + x^3 / 3 + x^5 / 15 + ...), whose terms have the same sign.
    """
    x = np.clip(x, -FARTHEST, FARTHEST)
    square = x * x
    term = total = x
    for n in range(1, 160):
        term = term * square / (2 * n + 1)
        total = total + term
    probability: np.ndarray = 0.5 + total * exp(-0.5 * square) / math.sqrt(2 * math.pi)
    return probability


def _polynomial(coefficients: list[float], x: np.ndarray) -> np.ndarray:
    """The sum of ``coefficients[n] * x ** n``, by Horner's rule."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= x
        total += coefficient
    return total
