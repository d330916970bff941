"""Stacks of matrices: on disk as in memory, in panels of any height, and nothing left behind."""

import gc
import os
import tempfile
from collections import namedtuple

import pytest
import torch

from repalign import stack as stacks
from repalign.errors import InputError
from repalign.stack import InMemory, OnDisk, Room, panels, room

CPU = torch.device("cpu")
Usage = namedtuple("Usage", "total used free")


def matrices(count=3, n=7):
    found = torch.randn(count, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return found + found.mT


def filled(where, count=3, n=7):
    stack = where.stack(count, n)
    for k, matrix in enumerate(matrices(count, n)):
        stack.write(k, matrix.clone(), over=2.0)
    return stack


@pytest.mark.parametrize("memory", [10**9, 1])
def test_a_stack_gives_back_what_was_written(memory):
    stack, expected = filled(Room(memory, CPU)), matrices() / 2
    assert isinstance(stack, InMemory if memory > 1 else OnDisk)
    assert len(stack) == 3
    assert torch.equal(stack.read(2, 5), expected[:, 2:5])
    assert torch.equal(stack.matrix(1), expected[1])
    assert torch.equal(stack.rows(torch.tensor([6, 0, 3])), expected[:, [6, 0, 3]])
    assert torch.equal(stack.diagonals(), expected.diagonal(dim1=1, dim2=2))
    assert torch.allclose(stack.sums(), expected.sum(2), rtol=1e-14, atol=1e-14)
    assert torch.equal(stack.pick([2, 0]).pick([1]).matrix(0), expected[0])
    assert torch.equal(stack.pick([0, 1]).read(0, 7), expected[:2])
    assert torch.equal(stack.pick([2, 0]).read(3, 6), expected[[2, 0], 3:6])
    assert torch.equal(stack.pick([2, 0]).rows(torch.tensor([5, 1, 2])), expected[[2, 0]][:, [5, 1, 2]])


def test_layers_side_by_side_in_memory_are_read_without_a_copy():
    stack = filled(Room(10**9, CPU))
    for one in (stack, stack.pick([1, 2])):
        assert one.views
        [(_, whole)] = panels(one)
        assert whole.untyped_storage().data_ptr() == stack.block.untyped_storage().data_ptr()
    assert not stack.pick([2, 0]).views


def test_what_is_held_leaves_room_for_less_until_its_last_user_is_gone():
    matrix, work = 8 * 49, int(stacks.WORK * 8 * 49)
    where = Room(work + 3 * matrix, CPU)
    first = where.stack(2, 7)
    assert where.left() == work + matrix
    assert isinstance(where.stack(2, 7), OnDisk)  # would have fitted alone
    part = first.pick([1])
    del first
    gc.collect()
    assert where.left() == work + matrix
    del part
    gc.collect()
    assert where.left() == where.memory
    kept = torch.zeros(49, dtype=torch.float64)
    where.hold(kept)
    assert where.left() == work + 2 * matrix
    del kept
    gc.collect()
    assert isinstance(where.stack(3, 7), InMemory)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 50])
def test_panels_of_any_height_cover_every_row_once(rows, monkeypatch):
    monkeypatch.setattr(stacks, "PANEL", 8 * 7 * 5 * rows)
    where = Room(1, CPU)
    stack, other = filled(where), filled(Room(10**9, CPU), count=2)
    assert isinstance(stack, OnDisk)
    stack.where = Room(10**9, CPU)  # what is left decides how much is read at once
    found = list(panels(stack, other, stack))
    assert [q.start for q, *_ in found] == list(range(0, 7, rows))
    assert torch.equal(torch.cat([x for _, x, _, _ in found], 1), matrices() / 2)
    assert torch.equal(torch.cat([y for _, _, y, _ in found], 1), matrices(2) / 2)
    assert all(x is again for _, x, _, again in found)


def test_memory_holds_all_stacks_and_the_work_on_one_layer_or_none():
    work = int(stacks.WORK * 8 * 49)
    assert isinstance(Room(work + 4 * 8 * 49, CPU).stack(3, 7, among=4), InMemory)
    assert isinstance(Room(work + 4 * 8 * 49 - 1, CPU).stack(3, 7, among=4), OnDisk)
    with pytest.raises(InputError, match=r"all pairs of 7 stimuli take .* raise --memory or lower --max-pairwise"):
        Room(work - 1, CPU).check(7)
    Room(work, CPU).check(7)


def test_a_disk_too_small_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(stacks.shutil, "disk_usage", lambda folder: Usage(9, 9, 8 * 3 * 49 - 1))
    with pytest.raises(InputError, match=rf"{tempfile.gettempdir()} are needed.*set TMPDIR to a folder with room"):
        Room(1, CPU).stack(3, 7)
    monkeypatch.setattr(stacks.shutil, "disk_usage", lambda folder: Usage(9, 9, 8 * 3 * 49))
    assert len(Room(1, CPU).stack(3, 7)) == 3


def test_a_disk_that_fills_up_is_named_too(monkeypatch):
    stack = filled(Room(1, CPU))

    class Full:
        def seek(self, offset):
            pass

        def write(self, values):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(stack.scratch, "file", Full())
    with pytest.raises(InputError, match="is full; raise --memory"):
        stack.write(0, matrices()[0])


def test_no_file_is_listed_and_its_space_is_free_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stack = filled(Room(1, CPU))
    part, number = stack.pick([1]), stack.scratch.file.fileno()
    assert not list(tmp_path.iterdir())
    del stack
    gc.collect()
    assert torch.equal(part.matrix(0), matrices()[1] / 2)  # still in use
    with pytest.raises(ZeroDivisionError):
        [part.matrix(0), 1 / 0]
    del part
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_file_cut_short_is_an_error_not_a_number():
    stack = filled(Room(1, CPU))
    stack.scratch.file.truncate(100)
    with pytest.raises(OSError, match=r"ends \d+ bytes early"):
        stack.matrix(2)


def test_a_device_without_float64_leaves_the_work_to_the_cpu():
    assert room(1000, "mps").device == CPU
    assert room(1000).device == CPU
    assert room(1000, "cuda:1").device == torch.device("cuda", 1)


def test_a_device_too_small_keeps_its_stack_beside_it():
    where = Room(10**6, torch.device("meta"))  # which has no room at all
    stack = where.stack(2, 4)
    for k in range(2):
        stack.write(k, torch.ones(4, 4, dtype=torch.float64))
    assert stack.block.device == CPU
    assert stack.read(0, 2).device.type == stack.matrix(0).device.type == "meta"
