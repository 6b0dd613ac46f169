"""Read what a user brings as tensors on a device; each failure is a one-line `InputError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from gadam.config import InputError
from gadam.display import describe_type, first_line
from gadam.types import Batch


def check_modes() -> None:
    """Refuse modes of PyTorch that are on in this thread alone, for threads that train would not have them."""
    if torch.is_inference_mode_enabled():
        raise InputError("torch.inference_mode() is on, in which nothing can be trained; call this outside of it")
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            said = "would act on this thread alone, not on those that train; call this outside of it"
            raise InputError(f"torch.autocast({kind!r}) is on, and {said}; or give a model and data in bfloat16")


def read_rows(name: str, data: Any, device: torch.device) -> Batch:
    """Read an argument (inputs, targets), or a map-style dataset, as tensors on a device; inputs as a tuple.

    Arrays and frames become tensors of their own type; a dataset is read once, item by item.

    Raises:
        InputError: it is nothing of the kind, parts have other numbers of rows, or a value is NaN or infinite.
    """
    if isinstance(data, DataLoader | IterableDataset):
        kind, hint = type(data).__name__, ""
        if isinstance(data, DataLoader) and not isinstance(data.dataset, IterableDataset):
            hint = f"; give its dataset: {name}=loader.dataset"
        raise InputError(
            f"{name}: is a {kind}, which draws batches by itself, and here each unit draws its own; must be a pair "
            f"(inputs, targets) or a dataset with len() and items by number{hint}"
        )
    pair_or_table = isinstance(data, tuple | list | Mapping | str | Tensor) or hasattr(data, "to_numpy")
    if not pair_or_table and hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        data = _read_dataset(name, data)
    if not (isinstance(data, tuple | list) and len(data) == 2):
        raise InputError(f"{name}: is a {describe_type(data)}, must be a pair (inputs, targets) or a map-style dataset")
    inputs, targets = (tuple(data[0]) if isinstance(data[0], tuple | list) else (data[0],)), data[1]
    if isinstance(targets, tuple | list):
        several = "several of them go into one tensor, see torch.stack" if targets else "there are none"
        raise InputError(f"{name}: targets are a {type(targets).__name__}, must be one tensor; {several}")
    if not inputs:
        raise InputError(f"{name}: inputs are empty, must be a tensor or a tuple of tensors")
    parts = [("targets", targets), *(("inputs", each) for each in inputs)]
    read = [(part, read_tensor(name, part, value)) for part, value in parts]
    wanted = read[0][1]
    for part, tensor in read:
        if tensor.dim() == 0 or len(tensor) == 0:
            raise InputError(f"{name}: {part} have shape {list(tensor.shape)}, must have at least one row")
        if (tensor.is_floating_point() or tensor.is_complex()) and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).reshape(len(tensor), -1).any(1).sum())
            raise InputError(f"{name}: {part} hold NaN or infinity in {bad:,} of {len(tensor):,} rows, must be finite")
        if len(tensor) != len(wanted):
            raise InputError(f"{name}: {len(tensor):,} rows of {part} but {len(wanted):,} targets, must be as many")
    # Whatever computed the rows is not trained; and a traced program counts on how they lie in memory.
    wanted, *given = (tensor.detach().to(device).contiguous() for _, tensor in read)
    return tuple(given), wanted


def read_tensor(name: str, part: str, value: Any) -> Tensor:
    """Return a tensor, an array or a frame as a dense tensor."""
    if hasattr(value, "to_numpy"):  # a frame or series, of pandas or its like
        kinds = getattr(value, "dtypes", None)
        columns = dict(kinds.items()) if kinds is not None and hasattr(kinds, "items") else {}
        if other := [(column, kind) for column, kind in columns.items() if getattr(kind, "kind", "O") not in "biufc"]:
            column, kind = other[0]
            raise InputError(
                f"{name}: {part} have a column {str(column)!r} of {kind}, must be numbers (of categories and text "
                "pandas.get_dummies makes columns)"
            )
        frame, value = value, value.to_numpy()
        if columns and value.dtype == object:  # columns of several types, or with values missing
            whole = all(kind.kind in "biu" for kind in columns.values()) and not frame.isna().any(axis=None)
            value = frame.to_numpy("int64" if whole else "float64", na_value=float("nan"))
    if type(value).__module__ == "numpy" and hasattr(value, "dtype"):
        if value.dtype.kind not in "biufc":
            raise InputError(
                f"{name}: {part} are an array of {value.dtype}, must be numbers; labels that are text become them by "
                "numpy.unique(labels, return_inverse=True)"
            )
        wide = value.dtype.kind == "u" and value.dtype.itemsize > 1  # torch has few operators for these
        value = torch.from_numpy(value.astype("int64" if wide else value.dtype.newbyteorder("="), order="C"))
    if not isinstance(value, Tensor):
        raise InputError(
            f"{name}: {part} are a {describe_type(value)}, must be a torch.Tensor, an array or a frame (see "
            "torch.as_tensor)"
        )
    hints = {"quantized": "take .dequantize()", "nested": "pad them", "meta": "they have no values"}
    kind = next((kind for kind in hints if getattr(value, f"is_{kind}")), str(value.layout).removeprefix("torch."))
    if kind != "strided":
        raise InputError(f"{name}: {part} are {kind}, must be dense; {hints.get(kind, 'take .to_dense()')}")
    return value


def _read_dataset(name: str, data: Any) -> tuple[tuple[Tensor, ...], Tensor]:
    """Read every item of a map-style dataset, (input, ..., target) each."""
    if isinstance(data, TensorDataset) and len(data.tensors) > 1:
        return data.tensors[:-1], data.tensors[-1]
    kind = type(data).__name__
    if not len(data):
        raise InputError(f"{name}: {kind} is empty, must have at least one item")
    try:
        items = [data[index] for index in range(len(data))]
    except MemoryError:
        raise InputError(f"{name}: {len(data):,} items of {kind} do not fit the memory; give fewer") from None
    except Exception as error:
        raise InputError(f"{name}: {kind} could not be read by number ({first_line(error)}); give tensors") from error
    columns = []
    for index, item in enumerate(items):
        if not (isinstance(item, tuple | list) and len(item) > 1):
            raise InputError(f"{name}: item {index} of {kind} is a {describe_type(item)}, must be (input, target)")
        try:
            *inputs, target = item
            several = len(inputs) == 1 and isinstance(inputs[0], tuple | list)
            if several and any(getattr(part, "ndim", 0) for part in inputs[0]):
                inputs = [*inputs[0]]  # an item ((input, ...), target), like a pair
            columns.append([torch.as_tensor(part) for part in (*inputs, target)])
        except (TypeError, ValueError, RuntimeError) as error:
            hint = "give tensors (of images: transform=torchvision.transforms.ToTensor())"
            raise InputError(f"{name}: item {index} of {kind} is no tensor ({first_line(error)}); {hint}") from None
    try:
        *inputs, targets = (torch.stack(list(column)) for column in zip(*columns, strict=True))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{name}: items of {kind} differ, must be alike ({first_line(error)})") from None
    return tuple(inputs), targets
