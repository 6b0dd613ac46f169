"""Handwritten digits for the baselines: 900 to learn from, 897 to test."""

import pytest
import torch
from sklearn.datasets import load_digits


@pytest.fixture(scope="session")
def digits():
    """Images [n, 1, 8, 8] in [0, 1] and targets: training, test."""
    images, targets = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    images = images.float().reshape(-1, 1, 8, 8) / 16
    return images[:900], targets[:900], images[900:], targets[900:]
