"""What a recording that fails raises; on a GPU, test_gpu.py records real steps."""

import contextlib
from collections.abc import Iterator

import pytest
import torch

from trainables.engine import cuda_graphs
from trainables.engine.cuda_graphs import CannotRecordError, recorded


@pytest.fixture
def without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that fails inside fails again where it ends, as torch's does."""

    @contextlib.contextmanager
    def graph(*_: object, **__: object) -> Iterator[None]:
        try:
            yield
        except RuntimeError:
            raise RuntimeError("the recording was ended\nby an error") from None

    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(cuda_graphs, "new_stream", lambda device: None)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)


@pytest.mark.usefixtures("without_a_gpu")
@pytest.mark.parametrize(
    ("inside", "raised"),
    [
        (torch.cuda.OutOfMemoryError("too little memory"), torch.cuda.OutOfMemoryError),
        (RuntimeError("waits for the GPU"), CannotRecordError),
        (KeyError("a fault of the model"), KeyError),
    ],
)
def test_too_little_memory_is_not_hidden_by_the_end_of_the_recording(
    inside: Exception, raised: type[Exception]
) -> None:
    with pytest.raises(raised) as caught, recorded(torch.device("cpu"), None):
        raise inside
    if raised is CannotRecordError:
        assert str(caught.value) == "the recording was ended"
    else:
        assert caught.value is inside
