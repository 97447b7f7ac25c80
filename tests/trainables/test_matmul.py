"""Which library multiplies, and that it changes nothing except speed."""

from collections.abc import Iterator

import pytest
import torch

from trainables.stacking import matmul


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    matmul.library.cache_clear()
    yield
    matmul.library.cache_clear()


def test_the_processor_decides_and_the_user_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(matmul.VARIABLE, raising=False)
    for amd, expected in ((True, "numpy"), (False, "torch")):
        monkeypatch.setattr(matmul, "_is_amd", lambda amd=amd: amd)
        monkeypatch.setattr(matmul, "_has_mkl", lambda: True)
        matmul.library.cache_clear()
        assert matmul.library() == expected
    monkeypatch.setenv(matmul.VARIABLE, "numpy")
    matmul.library.cache_clear()
    assert matmul.library() == "numpy"
    monkeypatch.setenv(matmul.VARIABLE, "blis")
    matmul.library.cache_clear()
    with pytest.raises(ValueError, match="'blis'; allowed: torch, numpy"):
        matmul.library()


@pytest.mark.parametrize("library", matmul.LIBRARIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_einsums_and_each_members_own(
    library: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(matmul.VARIABLE, library)
    torch.manual_seed(0)
    shared = torch.randn(7, 5, dtype=dtype).expand(3, 7, 5)  # as in the first layer
    weight, bias = torch.randn(3, 4, 5, dtype=dtype), torch.randn(3, 4, dtype=dtype)
    out = torch.empty(3, 7, 4, dtype=dtype)
    product = matmul.matmul(shared, weight.transpose(1, 2), bias=bias, out=out)
    assert product.data_ptr() == out.data_ptr()
    expected = torch.einsum("kbi,koi->kbo", shared, weight) + bias[:, None]
    torch.testing.assert_close(product, expected)
    gradient = torch.randn(3, 7, 4, dtype=dtype)
    transposed = matmul.matmul(gradient.transpose(1, 2), shared)
    torch.testing.assert_close(transposed, torch.einsum("kbo,kbi->koi", gradient, shared))
    for k in range(3):
        alone = matmul.matmul(gradient[k : k + 1].transpose(1, 2), shared[k : k + 1])
        assert torch.equal(alone[0], transposed[k])
