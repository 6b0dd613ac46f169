"""Methods that the paper compares GADAM with, other than optimizers: from training and test rows to predictions."""

from torch import Tensor

from gadam.config import InputError


def check_shapes(name: str, inputs: Tensor, targets: Tensor, test_inputs: Tensor) -> None:
    """Refuse rows, targets and test rows that do not belong together."""
    if len(inputs) != len(targets) or inputs.shape[1:] != test_inputs.shape[1:] or inputs.ndim < 2:
        shapes = f"{list(inputs.shape)}, {list(targets.shape)} and {list(test_inputs.shape)}"
        raise InputError(f"{name}: inputs, targets and test_inputs have shapes {shapes}, which do not fit")
