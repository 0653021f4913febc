"""Fixtures of the test suite. One thread per process: what is trained here must be what a sweep's worker trains."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
