"""What lies between the matrix products of a forward pass on a CPU, compiled by numba: loops over float32 arrays.

torch has an operation for each part of these, and most of their time is its calls, its intermediate results and the
lock of the interpreter; attention to rows of different lengths is slower still, for it reads what a mask then hides.
A kernel reads what it needs once, gives the lock away, and runs on one thread. Arrays are C-contiguous.

Compiled at the first call of each process, or read from the folder where an earlier one kept it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
LOG2_E, LN_2_HIGH, LN_2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
"""ln 2 in two parts, of which the first has few bits, so that multiples of it are exact (Cody & Waite 1980)."""
C2, C3, C4, C5, C6 = np.float32(1 / 2), np.float32(1 / 6), np.float32(1 / 24), np.float32(1 / 120), np.float32(1 / 720)
LOWEST, HIGHEST = np.float32(-87.0), np.float32(88.0)
SPAN = 64
"""Tokens whose probabilities are summed in float32; the sums of spans are added in float64."""


def _compiled(function: F) -> F:
    """Sums may be reordered: the order of vector instructions is another than that of the text."""
    how: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}
    try:
        return cast(F, njit(cache=True, **how)(function))
    except RuntimeError:  # no folder that may be written to
        return cast(F, njit(**how)(function))


def _inlined(function: F) -> F:
    """Part of a kernel; the order of its operations is that of the text."""
    return cast(F, njit(error_model="numpy")(function))


def _bitcast(context: Any, bits: Any) -> Any:
    """How numba is to make the float32 of 32 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


_from_bits: Any = intrinsic(_bitcast)


@_inlined
def _exp(x: np.float32) -> np.float32:
    """e^x to about 2e-7 of it, 0 below e^-87; without a branch, so that loops of it become vector instructions."""
    inside = min(max(x, LOWEST), HIGHEST)
    n = np.floor(inside * LOG2_E + HALF)
    r = inside - n * LN_2_HIGH - n * LN_2_LOW
    p = ONE + r * (ONE + r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * C6)))))
    power = _from_bits(np.int32((np.int32(n) + 127) << 23))
    return ZERO if x < LOWEST else p * power


@_compiled
def normalise(x: np.ndarray, weight: np.ndarray, eps: float, out: np.ndarray) -> None:
    """Root-mean-square norm of each row: x, out (N, d), weight (d,)."""
    n, d = x.shape
    for i in range(n):
        squares = ZERO
        for j in range(d):
            squares += x[i, j] * x[i, j]
        scale = np.float32(1.0 / np.sqrt(squares / d + eps))
        for j in range(d):
            out[i, j] = x[i, j] * scale * weight[j]


@_compiled
def gate(gate_up: np.ndarray, out: np.ndarray) -> None:
    """silu(gate) * up, which stand side by side: (N, 2m) -> (N, m)."""
    n, m = out.shape
    for i in range(n):
        for j in range(m):
            g = gate_up[i, j]
            out[i, j] = g / (ONE + _exp(-g)) * gate_up[i, m + j]


@_compiled
def attend(
    qkv: np.ndarray,
    angles: tuple[np.ndarray, np.ndarray],
    cache: tuple[np.ndarray, np.ndarray],
    rows: np.ndarray,
    positions: np.ndarray,
    out: np.ndarray,
) -> None:
    """Writes each token's key and value into the cache, then lets it see its row up to itself.

    Tokens i are at positions[i] of rows[i], those of one row in their order. qkv (N, (heads + 2 kv heads) x width), as
    the product gives it, unturned; angles: cosine and sine (positions, width / 2); cache: keys and values (rows, kv
    heads, positions, width); out (N, heads x width).
    """
    cos, sin = angles
    keys, values = cache
    kv_heads, room, width = keys.shape[1:]
    heads = out.shape[1] // width
    together = heads // kv_heads
    scores = np.empty(room, np.float32)
    query = np.empty(width, np.float32)
    scale = np.float32(1.0 / np.sqrt(width))
    for i in range(len(rows)):
        row, position = rows[i], positions[i]
        for head in range(kv_heads):
            k, v = keys[row, head], values[row, head]
            at = (heads + head) * width
            _turn(qkv[i, at : at + width], cos[position], sin[position], ONE, k[position])
            at = (heads + kv_heads + head) * width
            v[position] = qkv[i, at : at + width]
            for h in range(head * together, (head + 1) * together):
                start, end = h * width, (h + 1) * width
                _turn(qkv[i, start:end], cos[position], sin[position], scale, query)
                _see(query, k[: position + 1], v[: position + 1], scores, out[i, start:end])


@_compiled
def _turn(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, scale: np.float32, out: np.ndarray) -> None:
    """Rotary position of one head, scaled: pairs are half a width apart."""
    half = len(cos)
    for j in range(half):
        out[j] = (x[j] * cos[j] - x[half + j] * sin[j]) * scale
        out[half + j] = (x[half + j] * cos[j] + x[j] * sin[j]) * scale


@_compiled
def _see(query: np.ndarray, k: np.ndarray, v: np.ndarray, scores: np.ndarray, out: np.ndarray) -> None:
    """Softmax of query . k over positions, and the mean of v by it."""
    n, width = k.shape
    highest = np.float32(-np.inf)
    for p in range(n):
        dot = ZERO
        for j in range(width):
            dot += query[j] * k[p, j]
        scores[p] = dot
        highest = max(highest, dot)
    total = ZERO
    for p in range(n):
        scores[p] = _exp(scores[p] - highest)
        total += scores[p]
    out[:] = ZERO
    for p in range(n):
        share = scores[p] / total
        for j in range(width):
            out[j] += share * v[p, j]


@_compiled
def draw_whole(
    logits: np.ndarray,
    highest: np.ndarray,
    temperature: np.ndarray,
    u: np.ndarray,
    tokens: np.ndarray,
    logprobs: np.ndarray,
) -> None:
    """A token a row from its whole distribution, with its log-probability: logits (N, V); all others (N,).

    The token is the inverse of the cumulative distribution at u, in [0, 1); `highest` are the rows' greatest logits.
    """
    n, vocabulary = logits.shape
    weights = np.empty(vocabulary, np.float32)
    sums = np.empty((vocabulary + SPAN - 1) // SPAN, np.float32)
    for i in range(n):
        scale = np.float32(1.0 / temperature[i])
        total = 0.0
        for s in range(len(sums)):
            start, end = s * SPAN, min((s + 1) * SPAN, vocabulary)
            sums[s] = _weigh(logits[i, start:end], highest[i], scale, weights[start:end])
            total += sums[s]
        token = _inverse(weights, sums, u[i] * total)
        tokens[i] = token
        logprobs[i] = (logits[i, token] - highest[i]) * scale - np.log(total)


@_compiled
def _weigh(logits: np.ndarray, highest: np.float32, scale: np.float32, out: np.ndarray) -> np.float32:
    total = ZERO
    for j in range(len(logits)):
        out[j] = _exp((logits[j] - highest) * scale)
        total += out[j]
    return total


@_compiled
def _inverse(weights: np.ndarray, sums: np.ndarray, target: float) -> int:
    """The first index up to which the weights sum to more than target; if rounding hides it, the last of any weight."""
    below = 0.0
    for s in range(len(sums)):
        if below + sums[s] <= target:
            below += sums[s]
            continue
        for j in range(s * SPAN, min((s + 1) * SPAN, len(weights))):
            below += weights[j]
            if below > target:
                return j
    last = len(weights) - 1
    while last > 0 and weights[last] == 0:
        last -= 1
    return last
