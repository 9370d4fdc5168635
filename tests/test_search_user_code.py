"""A person's own functions and data: imported by path, called, blamed when they raise, checked when they return."""

import os
import sys

import pytest
import torch

from lut.errors import InputError
from search.dataset import SPLITS, DataSource
from search.user_code import UserCodeError, call, iterate, load, user_dataset

LOADERS = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def make(count, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 2, 6, 5, generator=generator) * torch.tensor([4.0, 1.0]).view(2, 1, 1) - 1
    return TensorDataset(x, torch.arange(count) % 3)

def loaders():
    return tuple(DataLoader(make(n, s), batch_size=7) for s, n in enumerate((40, 15, 9)))
"""


@pytest.fixture
def script(tmp_path):
    def write(text, name="mine.py"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_a_function_is_loaded_by_path_and_may_import_its_neighbours(script):
    script("VALUE = 3\n", "neighbour_of_mine.py")
    before = list(sys.path)
    triple = load(script("from neighbour_of_mine import VALUE\ndef triple(x):\n    return VALUE * x\n") + ":triple")
    assert call(triple, "here", 5) == 15
    assert sys.path == before
    del sys.modules["neighbour_of_mine"]


def test_a_file_runs_once_until_it_is_edited(script, tmp_path):
    path = script("runs = []\ndef a(): return runs\ndef b(): return runs\n")
    assert load(f"{path}:a")() is load(f"{path}:b")()
    script("def a(): return 'edited'\n")
    os.utime(path, ns=(1, 1))
    assert load(f"{path}:a")() == "edited"


def test_references_that_lead_nowhere(script):
    path = script("def loaders(): pass\nlimit = 3\n")
    for reference, message in [
        ("mine.py", "mine.py: expected FILE.py:FUNCTION"),
        ("mine:fn", "expected FILE.py:FUNCTION"),
        (f"{path}:", "expected FILE.py:FUNCTION"),
        ("none.py:fn", r"none.py: no such file"),
        (f"{path}:loader", r"no function 'loader'; did you mean loaders\?"),
        (f"{path}:limit", "no function 'limit'; it defines loaders"),
    ]:
        with pytest.raises(InputError, match=message):
            load(reference)


@pytest.mark.parametrize("line", ["def broken(:", "import no_such_module_here", "raise SystemExit(3)", "1 / 0"])
def test_a_file_that_fails_to_run_shows_its_own_line(script, line):
    path = script(f"x = 1\n{line}\n")
    with pytest.raises(UserCodeError) as caught:
        load(f"{path}:fn")
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(f"{path}:fn: running mine.py: ")
    assert any(line in text for text in rest)
    assert not any("importlib" in text or "user_code.py" in text for text in rest)


def test_what_user_code_raises_is_their_traceback_under_one_line(script):
    path = script("def inner(x):\n    return x['no']\ndef loss(x, y):\n    return inner({})\n")
    with pytest.raises(UserCodeError) as caught:
        call(load(f"{path}:loss"), "--loss mine.py:loss, training batch 3", 1, 2)
    lines = str(caught.value).splitlines()
    assert lines[0] == "--loss mine.py:loss, training batch 3: KeyError: 'no'"
    assert lines[1] == "Traceback (most recent call last):"
    assert [line.strip() for line in lines if "File" in line] == [
        f'File "{path}", line 4, in loss',
        f'File "{path}", line 2, in inner',
    ]
    assert caught.value.exit_code == 2


def test_interrupts_pass_through(script):
    with pytest.raises(KeyboardInterrupt):
        call(load(script("def stop():\n    raise KeyboardInterrupt\n") + ":stop"), "here")


def test_an_iterable_that_raises_midway_is_blamed():
    def items():
        yield 1
        raise RuntimeError("disk gone")

    iterator = iterate(items(), "mine.py:loaders: train")
    assert next(iterator) == 1
    with pytest.raises(UserCodeError, match=r"mine.py:loaders: train: RuntimeError: disk gone"):
        next(iterator)


def test_user_data_is_a_data_source_on_the_grid_of_bytes(script):
    path = script(LOADERS)
    source: DataSource = user_dataset(f"{path}:loaders")
    assert (source.channels, source.image_size, source.num_classes) == (2, (6, 5), 3)
    assert [source.size(split) for split in SPLITS] == [40, 15, 9]
    raw = [torch.cat([x for x, _ in loader]) for loader in load(f"{path}:loaders")()]
    low, high = raw[0].amin((0, 2, 3)), raw[0].amax((0, 2, 3))
    step = (high - low).view(2, 1, 1) / 255
    torch.testing.assert_close(torch.tensor(source.mean), -low * 255 / (high - low))
    torch.testing.assert_close(torch.tensor(source.std), 255 / (high - low))
    for split, whole in zip(SPLITS, raw):
        for _ in range(2):  # every epoch starts anew
            batches = list(source.batches(split, 16))
            assert [len(y) for _, y in batches] == [16] * (len(whole) // 16) + [len(whole) % 16] * (len(whole) % 16 > 0)
            x = torch.cat([x for x, _ in batches])
            codes = (x - low.view(2, 1, 1)) / step
            torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)
            inside = whole.clamp(low.view(2, 1, 1), high.view(2, 1, 1))
            assert ((x - inside).abs() <= step * 0.501).all()
            assert torch.equal(torch.cat([y for _, y in batches]), torch.arange(len(whole)) % 3)


def test_batches_larger_than_asked_for_are_cut(script):
    path = script(
        "import torch\ndef data():\n    b = [(torch.rand(50, 1, 2, 2), torch.arange(50))]\n    return b, b, b\n"
    )
    batches = list(user_dataset(f"{path}:data").batches("train", 20))
    assert [len(x) for x, _ in batches] == [20, 20, 10]
    assert torch.equal(torch.cat([y for _, y in batches]), torch.arange(50))


def test_a_constant_channel_and_targets_of_a_loss_of_ones_own(script):
    path = script(
        "import torch\ndef data():\n    b = [(torch.full((4, 1, 2, 2), 5.0), torch.rand(4, 3))]\n    return b, b, b\n"
    )
    source = user_dataset(f"{path}:data", classes=False)
    assert source.num_classes == 0
    x, y = next(iter(source.batches("train", 4)))
    assert torch.equal(x, torch.full((4, 1, 2, 2), 5.0))
    assert y.shape == (4, 3)


GOOD = "[(torch.rand(4, 1, 2, 2), torch.arange(4))]"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", r"data: returned a NoneType; expected \(train, validation, test\)"),
        (f"{GOOD}, {GOOD}", "returned a tuple of 2"),
        (f"{GOOD}, 3, {GOOD}", r"validation: a int is not an iterable of \(x, y\)"),
        (f"iter({GOOD}), {GOOD}, {GOOD}", "train: a list_iterator can be read only once"),
        (f"{GOOD}, {GOOD}, []", "test: no batches"),
        (f"{GOOD}, [torch.rand(4, 1, 2, 2)], {GOOD}", "validation: batch 0: a float32 tensor .*expected a pair"),
        (f"{GOOD} + [(torch.rand(1, 2, 2), 3)], {GOOD}, {GOOD}", r"train: batch 1: x is a float32 tensor \(1, 2, 2\)"),
        (
            f"[(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4))], {GOOD}, {GOOD}",
            "x is a uint8 tensor .*expected a float tensor",
        ),
        (
            f"{GOOD}, [(torch.rand(4, 1, 2, 3), torch.arange(4))], {GOOD}",
            r"x has shape \(4, 1, 2, 3\); expected \(N, 1, 2, 2\)",
        ),
        (f"[(torch.rand(4, 1, 2, 2) / 0, torch.arange(4))], {GOOD}, {GOOD}", "NaN or infinite"),
        (
            f"[(torch.rand(4, 1, 2, 2), [0, 1, 2, 3])], {GOOD}, {GOOD}",
            "y is a list of 4; expected a tensor",
        ),
        (f"[(torch.rand(4, 1, 2, 2), torch.arange(3))], {GOOD}, {GOOD}", "expected a tensor of 4 targets"),
        (f"[(torch.rand(4, 1, 2, 2), torch.rand(4))], {GOOD}, {GOOD}", "y is a float32 tensor .*expected classes"),
        (f"[(torch.rand(4, 1, 2, 2), torch.arange(4) - 1)], {GOOD}, {GOOD}", "expected classes 0, 1"),
        (f"{GOOD}, {GOOD}, [(torch.rand(4, 1, 2, 2), torch.arange(4) + 1)]", "test: class 4 is not in train"),
        ("[1 / 0], 2, 3", "data: ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_wrong_with_the_data_is_said(script, returned, message):
    path = script(f"import torch\ndef data():\n    return {returned}\n")
    with pytest.raises(InputError, match=message):
        user_dataset(f"{path}:data")
