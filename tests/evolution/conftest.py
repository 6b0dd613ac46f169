import pytest
from evolving import share_programs


@pytest.fixture(autouse=True)
def traced_once(monkeypatch):
    monkeypatch.setattr("gadam.training.plan.Programs", share_programs)
