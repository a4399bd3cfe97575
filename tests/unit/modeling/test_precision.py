"""Precision: what is asked for is what products are computed in, and results stay near those in float32."""

from __future__ import annotations

import pytest
import torch
from attune.modeling.precision import chosen_precision, products_in


def test_what_is_named_is_taken():
    assert chosen_precision("float32", "cpu") is torch.float32
    assert chosen_precision("bfloat16", "cpu") is torch.bfloat16
    assert chosen_precision("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_have_it_and_weights_do_not(precision, dtype):
    layer = torch.nn.Linear(8, 8)
    x = torch.ones(2, 8)
    with products_in(precision, "cpu"):
        result = layer(x)
    assert result.dtype is dtype
    assert layer.weight.dtype is torch.float32
    torch.testing.assert_close(result.float(), layer(x), atol=0.05, rtol=0.05)
