"""Trainings side by side: what of them comes when, and how they end."""

import threading

import pytest
import torch

from benchmarks.gpu.side_by_side import side_by_side

CPU = torch.device("cpu")


def test_all_that_each_yields_comes_in_its_order():
    found = list(side_by_side({"a": iter([1, 2, 3]), "b": iter([]), "c": iter([4, 5])}, CPU))
    assert {key: [item for own, item in found if own == key] for key in "abc"} == {
        "a": [1, 2, 3],
        "b": [],
        "c": [4, 5],
    }
    assert found[:2] == [("a", 1), ("c", 4)]  # alone, one after another


def test_they_go_on_at_the_same_time():
    """Each waits for the other in its second step."""
    both = threading.Barrier(2, timeout=60)

    def waiting():
        yield 0
        both.wait()
        yield 1

    assert len(list(side_by_side({"a": waiting(), "b": waiting()}, CPU))) == 4


def test_one_that_is_not_wanted_ends_and_the_others_go_on():
    wanted, endless = {"a", "b"}, iter(int, 1)
    seen = []
    for key, _ in side_by_side({"a": endless, "b": iter(range(5))}, CPU, wanted.__contains__):
        seen.append(key)
        wanted.discard("a")
    assert seen.count("b") == 5


def test_an_error_of_one_comes_out_and_ends_the_others():
    def failing():
        yield 0
        raise RuntimeError("the loss is nan")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="the loss is nan"):
        list(side_by_side({"a": failing(), "b": iter(int, 1)}, CPU))
    assert threading.active_count() == before


def test_who_stops_listening_ends_them():
    before = threading.active_count()
    found = side_by_side({"a": iter(int, 1), "b": iter(int, 1)}, CPU)
    for _ in range(4):
        next(found)
    found.close()
    assert threading.active_count() == before
