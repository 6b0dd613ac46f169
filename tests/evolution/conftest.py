import pytest
from evolving import share_programs


@pytest.fixture(autouse=True)
def traced_once_and_asked_after_each_step(monkeypatch):
    monkeypatch.setattr("gadam.training.plan.Programs", share_programs)
    monkeypatch.setattr("gadam.training.trainer.REPORT_SECONDS", 0)
