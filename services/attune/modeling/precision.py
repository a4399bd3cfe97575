"""The precision of matrix products: bfloat16 where the hardware multiplies it, float32 elsewhere.

Only products are computed in it, under autocast: weights, moments, log-probabilities and losses stay float32.
"""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def chosen_precision(precision: Precision, device: str | torch.device) -> torch.dtype:
    """The dtype of products on a device; "auto" is bfloat16 on CPUs with AMX or AVX-512 BF16 and on GPUs that have it.

    On a CPU without either, bfloat16 is emulated and slower than float32.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    multiplies = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if multiplies else torch.float32


def products_in(precision: Precision, device: str | torch.device) -> torch.autocast:
    """A context in which products have the chosen precision."""
    dtype = chosen_precision(precision, device)
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)
