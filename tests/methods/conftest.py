from types import SimpleNamespace

import pytest
import torch
from train import synthetic


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    return synthetic.cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="session")
def crowd(tmp_path_factory):
    """Eight scans: two batch norm groups of four."""
    return synthetic.cohort(tmp_path_factory.mktemp("crowd"), scans=8)


@pytest.fixture(scope="session")
def strangers(crowd):
    """The same scans, each of a person of its own: all eight are in one step."""
    return SimpleNamespace(**{**vars(crowd), "subjects": [store.scan for store in crowd.stores]})
