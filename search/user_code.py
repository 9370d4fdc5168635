"""A person's own data, loss, metric or model: `file.py:function`, imported by path and called with care.

What their code raises is shown as their own traceback under one line that says where Lutier called it. Data that
they yield as floats is put on the grid of bytes that the device will see. Per channel, lo and hi the extremes of the
training split: byte = round(255 (x - lo) / (hi - lo)), clamped; so mean = -255 lo / (hi - lo), std = 255 / (hi - lo).
"""

from __future__ import annotations

import difflib
import hashlib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lut.errors import InputError

from .dataset import SPLITS, Batches, to_bytes, to_float


class UserCodeError(InputError):
    """User code raised; the message carries the traceback through that code."""


def load(reference: str) -> Callable[..., Any]:
    """The function that `file.py:function` names; a file is run once, its folder is importable meanwhile.

    Raises InputError when the file or the function is missing, UserCodeError when running the file raises.
    """
    file, _, name = reference.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise InputError(f"{reference}: expected FILE.py:FUNCTION")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise InputError(f"{file}: no such file")
    module = _module(path, reference)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"it defines {', '.join(known) or 'no functions'}"
        raise InputError(f"{file}: no function {name!r}; {hint}")
    return function


def _module(path: Path, reference: str) -> ModuleType:
    """The file as a module; an edited file is run again."""
    key = f"{path}:{path.stat().st_mtime_ns}"
    name = f"lutier_user_{path.stem}_{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    loader = SourceFileLoader(name, str(path))
    module = sys.modules[name] = module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    sys.path.insert(0, str(path.parent))
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _described(error, f"{reference}: running {path.name}") from None
    finally:
        with suppress(ValueError):  # they may have changed sys.path
            sys.path.remove(str(path.parent))
    return module


def call(function: Callable[..., Any], where: str, *args: Any) -> Any:
    """function(*args). Raises UserCodeError, whose first line begins with `where`, when the function raises."""
    try:
        return function(*args)
    except Exception as error:
        raise _described(error, where) from None


def iterate(iterable: Iterable[Any], where: str) -> Iterator[Any]:
    """The items of a user's iterable; what iterating raises becomes UserCodeError."""
    iterator = call(iter, where, iterable)
    done = object()
    while (item := call(next, where, iterator, done)) is not done:
        yield item


def _described(error: BaseException, where: str) -> UserCodeError:
    """Frames of this file and of the import machinery above the user's code are left out."""
    trace = error.__traceback__
    while trace is not None and _ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    return UserCodeError(f"{where}: {type(error).__name__}: {error}\n{text}")


def _ours(file: str) -> bool:
    return file == __file__ or file.startswith("<frozen importlib")


@dataclass(frozen=True, eq=False)
class UserData:
    """A user's three iterables of (x, y) batches as a `DataSource`; they are iterated anew for every epoch.

    sizes: examples by split, as counted once. num_classes is 0 when the targets are not classes.
    """

    name: str
    iterables: dict[str, Iterable[Any]]
    sizes: dict[str, int]
    shape: tuple[int, int, int]  # channels, height, width
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    classes: bool

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        return self.shape[1:]

    def size(self, split: str) -> int:
        return self.sizes[split]

    def batches(
        self,
        split: str,
        batch_size: int,
        shuffle: bool = False,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> Batches:
        """(x, y) in batches of `batch_size`, x on the grid of bytes. Order and augmentation are the user's own:
        `shuffle`, `augment` and `generator` change nothing."""
        held: list[tuple[Tensor, Tensor]] = []
        count = 0
        for x, y in _checked(self.iterables[split], f"{self.name}: {split}", self.classes, self.shape):
            held.append((to_float(to_bytes(x, self.mean, self.std), self.mean, self.std), y))
            count += len(x)
            if count >= batch_size:
                xs, ys = (torch.cat(parts) for parts in zip(*held))
                whole = count - count % batch_size
                yield from zip(xs[:whole].split(batch_size), ys[:whole].split(batch_size))
                held, count = [(xs[whole:], ys[whole:])], count - whole
        if count:
            xs, ys = (torch.cat(parts) for parts in zip(*held))
            yield xs, ys


def user_dataset(reference: str, classes: bool = True) -> UserData:
    """Data of `file.py:function`, which takes nothing and returns train, validation and test iterables of (x, y).

    x: float (N, C, H, W), finite; y: integer classes (N,), or with classes=False (a loss of the user's own) any tensor
    of N targets. An iterable must start anew each time it is iterated, as lists and DataLoaders do. All three are read
    once here, for the range of x and the counts. Raises InputError that says which split and batch is wrong.
    """
    return as_data(call(load(reference), reference), reference, classes)


def as_data(loaders: Any, reference: str = "loaders", classes: bool = True) -> Any:
    """A `DataSource` from what a person has: one already, or train, validation and test iterables (tuple or mapping).

    reference: what errors call it; else as `user_dataset`.
    """
    if hasattr(loaders, "batches"):
        return loaders
    if isinstance(loaders, Mapping) and set(loaders) == set(SPLITS):
        loaders = [loaders[split] for split in SPLITS]
    if not isinstance(loaders, (tuple, list)) or len(loaders) != 3:
        raise InputError(f"{reference}: returned {_kind(loaders)}; expected (train, validation, test)")
    iterables = dict(zip(SPLITS, loaders))
    sizes, num_classes, shape = {}, 0, None
    low = high = torch.empty(0)
    for split, iterable in iterables.items():
        where = f"{reference}: {split}"
        sizes[split] = 0
        for x, y in _checked(iterable, where, classes, shape):
            if shape is None:
                shape = (x.shape[1], x.shape[2], x.shape[3])
                low, high = x.amin((0, 2, 3)), x.amax((0, 2, 3))
            sizes[split] += len(x)
            top = int(y.max()) + 1 if classes else 0
            if split == "train":
                low, high = low.minimum(x.amin((0, 2, 3))), high.maximum(x.amax((0, 2, 3)))
                num_classes = max(num_classes, top)
            elif top > num_classes:
                raise InputError(f"{where}: class {top - 1} is not in train, which has 0 to {num_classes - 1}")
        if not sizes[split]:
            raise InputError(f"{where}: no batches; expected at least one (x, y)")
    assert shape is not None
    span = torch.where(high > low, high - low, torch.ones_like(high)).double()
    mean, std = tuple((-255 * low.double() / span).tolist()), tuple((255 / span).tolist())
    return UserData(reference, iterables, sizes, shape, mean, std, num_classes, classes)


def _checked(iterable: Any, where: str, classes: bool, shape: tuple[int, int, int] | None) -> Batches:
    """Batches as float32 x and int64 (or any) y, each held against what is expected of it."""
    if not isinstance(iterable, Iterable) and not hasattr(iterable, "__getitem__"):
        raise InputError(f"{where}: {_kind(iterable)} is not an iterable of (x, y)")
    if isinstance(iterable, Iterator):
        raise InputError(f"{where}: {_kind(iterable)} can be read only once; return a list or a DataLoader")
    for index, item in enumerate(iterate(iterable, where)):
        at = f"{where}: batch {index}"
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise InputError(f"{at}: {_kind(item)}; expected a pair (x, y)")
        x, y = item
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 4:
            raise InputError(f"{at}: x is {_kind(x)}; expected a float tensor (N, C, H, W)")
        shape = shape or (x.shape[1], x.shape[2], x.shape[3])
        if x.shape[1:] != shape or not x.numel():
            raise InputError(f"{at}: x has shape {tuple(x.shape)}; expected (N, {', '.join(map(str, shape))})")
        if not torch.isfinite(x).all():
            raise InputError(f"{at}: x holds NaN or infinite values")
        if not isinstance(y, Tensor) or y.shape[:1] != x.shape[:1]:
            raise InputError(f"{at}: y is {_kind(y)}; expected a tensor of {len(x)} targets")
        if classes:
            if y.ndim != 1 or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or int(y.min()) < 0:
                raise InputError(f"{at}: y is {_kind(y)}; expected classes 0, 1, ... as integers (N,)")
            y = y.long()
        yield x.detach().float().cpu(), y.detach().cpu()


def _kind(value: Any) -> str:
    """What a value is, for a message."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
