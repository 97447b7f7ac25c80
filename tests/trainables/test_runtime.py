"""How a process that trains is set up."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from trainables.engine.runtime import in_training_thread


def test_all_training_of_a_process_happens_in_one_thread() -> None:
    """One thread per cohort would leave one heap per cohort behind."""
    with ThreadPoolExecutor(3) as trials:
        barrier = threading.Barrier(3)

        def trial() -> tuple[int, int]:
            barrier.wait()
            return threading.get_ident(), in_training_thread(threading.get_ident)

        threads = [future.result() for future in [trials.submit(trial) for _ in range(3)]]
    assert len({trial_thread for trial_thread, _ in threads}) == 3
    assert len({training_thread for _, training_thread in threads}) == 1


def test_the_training_thread_is_set_up() -> None:
    denormal = torch.tensor([1e-40])
    assert in_training_thread(lambda: (denormal * 0.5).item()) == 0


def test_errors_are_raised_to_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        in_training_thread(lambda: 1 // 0)
