"""Every test begins with the same random state, and has one thread: it must train what a sweep's worker trains."""

import pytest
import torch


@pytest.fixture(autouse=True)
def same_start():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
