"""Which library multiplies, and that it does not matter but for speed."""

from collections.abc import Iterator

import pytest
import torch

from trainables.stacking import matmul as products
from trainables.stacking.matmul import matrix_product


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    products.library.cache_clear()
    yield
    products.library.cache_clear()


def test_the_processor_decides_and_the_user_overrules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(products.VARIABLE, raising=False)
    for amd, expected in ((True, "numpy"), (False, "torch")):
        monkeypatch.setattr(products, "_is_amd", lambda amd=amd: amd)
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
        products.library.cache_clear()
        assert products.library() == expected
    monkeypatch.setenv(products.VARIABLE, "numpy")
    products.library.cache_clear()
    assert products.library() == "numpy"
    monkeypatch.setenv(products.VARIABLE, "blis")
    products.library.cache_clear()
    with pytest.raises(ValueError, match="'blis'; allowed: torch, numpy"):
        products.library()


@pytest.mark.parametrize("library", products.LIBRARIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_einsums_and_each_members_own(
    library: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(products.VARIABLE, library)
    torch.manual_seed(0)
    shared = torch.randn(7, 5, dtype=dtype).expand(3, 7, 5)  # as the first layer has it
    weight, bias = torch.randn(3, 4, 5, dtype=dtype), torch.randn(3, 4, dtype=dtype)
    out = torch.empty(3, 7, 4, dtype=dtype)
    found = matrix_product(shared, weight.transpose(1, 2), bias=bias, out=out)
    assert found.data_ptr() == out.data_ptr()
    wanted = torch.einsum("kbi,koi->kbo", shared, weight) + bias[:, None]
    torch.testing.assert_close(found, wanted)
    gradient = torch.randn(3, 7, 4, dtype=dtype)
    turned = matrix_product(gradient.transpose(1, 2), shared)
    torch.testing.assert_close(turned, torch.einsum("kbo,kbi->koi", gradient, shared))
    for k in range(3):
        alone = matrix_product(gradient[k : k + 1].transpose(1, 2), shared[k : k + 1])
        assert torch.equal(alone[0], turned[k])
