"""The cache: right or absent, whatever happened to the folder."""

import os
import threading
import warnings

import numpy as np
import pytest

from nncomp.cache import Cache, RecomputedWarning, key_of


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


KEY = key_of("a", 1, [2.5, None])


def only_file(cache):
    (path,) = [path for path in cache.folder.rglob("*") if path.is_file()]
    return path


def test_what_was_put_is_got(cache):
    assert cache.get(KEY) is None
    cache.put(KEY, {"a": np.arange(3)})
    assert cache.get(KEY)["a"].tolist() == [0, 1, 2]
    assert Cache(cache.folder).get(KEY)["a"].tolist() == [0, 1, 2]
    cache.discard(KEY)
    cache.discard(KEY)
    assert cache.get(KEY) is None


def test_the_folder_is_made_when_something_is_kept(cache):
    assert cache.get(KEY) is None
    assert not cache.folder.exists()


def test_keys_depend_on_all_parts_and_their_order():
    keys = {key_of(*parts) for parts in ([], [1], ["1"], [1, 2], [2, 1], [[1, 2]], [{"a": 1}], [None])}
    assert len(keys) == 8
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


@pytest.mark.row(99)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "it is of another form"),
        (lambda data: data[: len(data) // 2], "its digest does not match"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "its digest does not match"),
        (lambda data: b"\x80\x04K\x01.", "it is of another form"),
        (lambda data: data.replace(b"state-1", b"state-9"), "it is of another form"),
    ],
)
def test_a_damaged_entry_is_a_warning_and_no_entry(cache, damage, reason):
    cache.put(KEY, [1, 2, 3])
    path = only_file(cache)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(RecomputedWarning) as caught:
        assert cache.get(KEY) is None
    assert caught[0].message.code == "NNC-W070"
    expected = f"cache entry {str(path)!r} cannot be used ({reason}); it is computed anew"
    assert caught[0].message.message == expected
    cache.put(KEY, [1, 2, 3])
    assert cache.get(KEY) == [1, 2, 3]


def test_an_entry_that_is_a_folder_is_a_warning(cache):
    cache.put(KEY, 1)
    path = only_file(cache)
    path.unlink()
    path.mkdir()
    with pytest.warns(RecomputedWarning, match=r"cannot be used \(Is a directory\)"):
        assert cache.get(KEY) is None


def test_a_folder_that_cannot_be_written_is_warned_of_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache")
    with pytest.warns(RecomputedWarning) as caught:
        cache.put(KEY, 1)
    assert caught[0].message.code == "NNC-W071"
    assert caught[0].message.message.startswith("the cache keeps nothing: cannot write ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(KEY, 1)


def test_what_was_used_least_recently_goes_first(tmp_path):
    cache = Cache(tmp_path, limit_bytes=2100)
    keys = [key_of(number) for number in range(4)]
    for number, key in enumerate(keys[:3]):
        cache.put(key, os.urandom(500).hex())
        os.utime(cache._path(key), (number, number))
    cache.get(keys[0])
    cache.put(keys[3], os.urandom(500).hex())
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]


@pytest.mark.row(99)
def test_a_clock_that_is_wrong_does_no_harm(cache):
    cache.put(KEY, 1)
    os.utime(only_file(cache), (2**40, 2**40))
    assert cache.get(KEY) == 1


@pytest.mark.row(98)
def test_of_two_writers_the_last_wins_and_nobody_reads_a_mixture(cache):
    values = [[number] * 20000 for number in range(4)]
    seen = []

    def write(value):
        for _ in range(5):
            Cache(cache.folder).put(KEY, value)

    threads = [threading.Thread(target=write, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.append(cache.get(KEY))
    for thread in threads:
        thread.join()
    assert cache.get(KEY) in values
    assert all(value is None or value in values for value in seen)
    assert [path.name.startswith(".") for path in cache.folder.rglob("*") if path.is_file()] == [False]
