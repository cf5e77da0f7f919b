"""Fetching archives from a server that breaks in every way a server breaks; the traffic stays on 127.0.0.1."""

import errno
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archives import part_file
from archives.catalogue import Archive, ArchiveError, Member, archives_of, read_archives, require_space
from archives.download import Policy, download
from archives.part_file import PartFile
from archives.unpack import unpack
from tests.archives.archive_server import BUFFER, File, serving
from tests.archives.miniatures import corruptions, describe

ROOT = Path(__file__).parents[2]
FAST = Policy(segment=256 << 10, attempts=4, backoff=0.01, timeout=5)
PAGE = b"<!DOCTYPE html>\n<html><head><title> Down for maintenance </title></head><body></body></html>"


def at(archive: Archive, *urls: str) -> Archive:
    return archive.model_copy(update={"urls": list(urls)})


def assert_right(path: Path, content: bytes, archive: Archive) -> None:
    """The file has its name and its bytes, and nothing of the transfer is left."""
    assert path.name == archive.name and path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir() if not p.name.endswith(".lock")] == [archive.name]


def assert_clear(error: pytest.ExceptionInfo, archive: Archive, folder: Path, *words: str) -> None:
    """One message that names the file, every URL and the remedy; and no file that a later run would believe."""
    message = str(error.value)
    for word in (archive.name, *archive.urls, *words):
        assert word in message
    assert "run it again" in message or "Make room" in message
    assert not (folder / archive.name).exists()


def test_brings_verifies_and_unpacks(tmp_path):
    archive, content, arrays = corruptions()
    with serving(a=File(content)) as server:
        archive = at(archive, server.url("a"))
        path = download(archive, tmp_path / "archives", policy=FAST)
        asked = {
            (request.headers["User-Agent"], request.headers["Accept-Encoding"]) for request in server.requests
        }
    assert_right(path, content, archive)
    assert len(server.requests) > 4 and asked == {("pushpull-fetch/1.0", "identity")}
    unpack([(archive, path)], tmp_path / "c")
    assert sorted(p.stem for p in (tmp_path / "c").iterdir()) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.load(tmp_path / "c" / f"{name}.npy"), array)


@pytest.mark.parametrize("connections", [1, 4])
def test_killed_half_way_and_resumed(tmp_path, connections):
    archive, content, _ = corruptions(images=700)
    script = (
        "import socket, sys; from pathlib import Path; from urllib3.connection import HTTPConnection\n"
        "from archives.catalogue import Archive; from archives.download import Policy, download\n"
        # Else a busy machine has more than the 5 % below in the buffers of the child when it is killed.
        f"small = (socket.SOL_SOCKET, socket.SO_RCVBUF, {BUFFER})\n"
        "HTTPConnection.default_socket_options.append(small)\n"
        f"policy = Policy(segment=2 << 20, connections={connections})\n"
        "download(Archive.model_validate_json(sys.stdin.read()), Path(sys.argv[1]), policy=policy)"
    )
    with serving(a=File(content, rate=40e6)) as server:
        archive = at(archive, server.url("a"))
        command = [sys.executable, "-c", script, str(tmp_path)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
        child.stdin.write(archive.model_dump_json().encode())
        child.stdin.close()
        while server.sent < len(content) // 2:
            assert child.poll() is None
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not (tmp_path / archive.name).exists()
        server.files["a"].rate = None
        path = download(archive, tmp_path, policy=FAST)
    assert_right(path, content, archive)
    assert (server.sent - len(content)) / len(content) < 0.05


def test_goes_on_where_three_connections_dropped(tmp_path):
    archive, content, _ = corruptions()
    with serving(a=File(content, drops=[100_000, 50_000, 200_000])) as server:
        path = download(at(archive, server.url("a")), tmp_path, policy=FAST)
        assert server.files["a"].drops == []
    assert_right(path, content, archive)
    assert server.sent - len(content) < 10_000


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 429])
def test_asks_again_after_a_status_that_passes(tmp_path, status):
    archive, content, _ = corruptions(images=20)
    with serving(a=File(content, answers=[(status, {}), (status, {})])) as server:
        assert_right(download(at(archive, server.url("a")), tmp_path, policy=FAST), content, archive)


def test_a_server_that_allows_one_connection(tmp_path):
    archive, content, _ = corruptions(images=100)
    with serving(a=File(content, rate=4e6, most=1)) as server:
        policy = Policy(segment=256 << 10, attempts=2, backoff=0.01)
        assert_right(download(at(archive, server.url("a")), tmp_path, policy=policy), content, archive)


@pytest.mark.parametrize("status", [429, 503])
def test_waits_as_long_as_the_server_asks(tmp_path, status):
    archive, content, _ = corruptions(images=20)
    with serving(a=File(content, answers=[(status, {"Retry-After": "1"})])) as server:
        assert_right(download(at(archive, server.url("a")), tmp_path, policy=FAST), content, archive)
    first, second = (request.time for request in server.requests[:2])
    assert second - first >= 1


@pytest.mark.parametrize("header", ["soon", "\u00b2", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_time_that_cannot_be_waited_for_is_passed_over(tmp_path, header):
    archive, content, _ = corruptions(images=20)
    with serving(a=File(content, answers=[(503, {"Retry-After": header})])) as server:
        assert_right(download(at(archive, server.url("a")), tmp_path, policy=FAST), content, archive)


def test_does_not_wait_for_ever(tmp_path):
    archive, content, _ = corruptions(images=20)
    tomorrow = formatdate(time.time() + 86400, usegmt=True)
    with serving(a=File(content, answers=[(429, {"Retry-After": tomorrow})])) as server:
        archive = at(archive, server.url("a"))
        with pytest.raises(ArchiveError) as error:
            download(archive, tmp_path, policy=FAST)
    assert_clear(error, archive, tmp_path, "429", "asks to wait 86")


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("known", [True, False])
def test_recognises_a_web_page_with_status_200(tmp_path, kind, known):
    archive, content, _ = corruptions(images=20)
    with serving(a=File(content, page=PAGE, headers={"Content-Type": kind})) as server:
        archive = at(archive, server.url("a")).model_copy(update={} if known else {"bytes": None})
        with pytest.raises(ArchiveError) as error:
            download(archive, tmp_path, policy=FAST)
    assert_clear(error, archive, tmp_path, "web page", "Down for maintenance")


def test_a_web_page_does_not_cost_what_has_arrived(tmp_path):
    archive, content, _ = corruptions()
    with serving(a=File(content, drops=[64 << 10] * 999)) as server:
        archive = at(archive, server.url("a"))
        with pytest.raises(ArchiveError):
            download(archive, tmp_path, policy=Policy(segment=1 << 20, attempts=1))
        server.files["a"].page = PAGE
        with pytest.raises(ArchiveError) as error:
            download(archive, tmp_path, policy=FAST)
        assert "kept for the next run" in str(error.value)
        server.files["a"].page, server.files["a"].drops, before = None, [], server.sent
        assert_right(download(archive, tmp_path, policy=FAST), content, archive)
        assert server.sent - before < len(content) - 60_000


def test_refuses_another_file_of_the_same_size(tmp_path):
    archive, content, _ = corruptions(images=20)
    wrong = bytearray(content)
    wrong[len(wrong) // 2] ^= 1
    with serving(a=File(bytes(wrong))) as server:
        archive = at(archive, server.url("a"))
        with pytest.raises(ArchiveError) as error:
            download(archive, tmp_path, policy=FAST)
    assert_clear(error, archive, tmp_path, archive.md5, "damaged")
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_refuses_a_file_cut_short_on_the_server(tmp_path, known, ranges):
    archive, content, _ = corruptions(images=20)
    with serving(a=File(content[:-5000], ranges=ranges)) as server:
        archive = at(archive, server.url("a")).model_copy(update={} if known else {"bytes": None})
        with pytest.raises(ArchiveError) as error:
            download(archive, tmp_path, policy=FAST)
    assert_clear(error, archive, tmp_path, f"{len(content) - 5000:,} bytes" if known else archive.md5)


def test_gives_up_on_a_server_that_never_gets_further(tmp_path):
    archive, content, _ = corruptions(images=20)
    with serving(a=File(content, drops=[0] * 99)) as server:
        archive = at(archive, server.url("a"))
        with pytest.raises(ArchiveError) as error:
            download(archive, tmp_path, policy=FAST)
    assert_clear(error, archive, tmp_path, "4 times in a row")


@pytest.mark.parametrize("length", [True, False])
def test_a_server_without_ranges(tmp_path, length):
    archive, content, _ = corruptions()
    with serving(a=File(content, ranges=False, length=length, drops=[300_000])) as server:
        path = download(at(archive, server.url("a")), tmp_path, policy=FAST)
    assert_right(path, content, archive)


def test_what_is_hashed_is_what_is_kept(tmp_path):
    """A server without ranges drops the connection, and gives a file with another beginning the second time."""
    archive, content, _ = corruptions(images=20)
    served = File(
        content, ranges=False, drops=[2_000, 500_000], rate=1e6
    )  # the first when the size is asked for

    def spoil() -> None:
        while server.sent < 100_000:
            time.sleep(0.001)
        served.content = bytes(1000) + content[1000:]

    with serving(a=served) as server:
        spoiling = threading.Thread(target=spoil, daemon=True)
        spoiling.start()
        path = download(at(archive, server.url("a")), tmp_path, policy=FAST)
        spoiling.join()
    assert_right(path, content, archive)


def test_takes_the_rest_from_the_next_url(tmp_path, caplog):
    archive, content, _ = corruptions()
    with serving(a=File(content, drops=[0] * 999), b=File(content)) as server:
        server.files["a"].drops[:2] = [200_000, 200_000]
        archive = at(archive, server.url("missing"), server.url("a"), server.url("b"))
        path = download(archive, tmp_path, policy=Policy(segment=1 << 20, attempts=2, backoff=0.01))
    assert_right(path, content, archive)
    assert "404" in caplog.text and "2 times in a row" in caplog.text
    assert server.requests[-1].path == "/b"
    assert server.sent < len(content) + 10_000


def test_leaves_a_slow_server_for_a_faster_one_and_comes_back_to_it(tmp_path):
    archive, content, _ = corruptions(images=20)
    hurried = Policy(segment=64 << 10, slow=10_000_000, slow_after=0.2, backoff=0.01)
    with serving(slow=File(content, rate=1e6), fast=File(content)) as server:
        archive = at(archive, server.url("slow"), server.url("fast"))
        assert_right(download(archive, tmp_path / "1", policy=hurried), content, archive)
        assert server.requests[-1].path == "/fast"
        archive = at(archive, server.url("slow"), server.url("missing"))
        assert_right(download(archive, tmp_path / "2", policy=hurried), content, archive)


def test_fetches_again_what_was_spoilt_on_the_disk(tmp_path):
    archive, content, _ = corruptions()
    with serving(a=File(content, drops=[500_000] + [0] * 999)) as server:
        archive = at(archive, server.url("a"))
        with pytest.raises(ArchiveError):
            download(archive, tmp_path, policy=Policy(segment=1 << 20, attempts=1, connections=1))
        with (tmp_path / f"{archive.name}.part").open("r+b") as file:
            file.seek(1000)
            file.write(b"spoilt")
        server.files["a"].drops = []
        assert_right(download(archive, tmp_path, policy=FAST), content, archive)


def test_a_file_url(tmp_path):
    archive, content, _ = corruptions()
    source = tmp_path / "with a space" / "x.tar"
    source.parent.mkdir()
    source.write_bytes(content)
    archive = at(archive, "file:///no/such/file", source.as_uri())
    assert_right(download(archive, tmp_path / "archives", policy=FAST), content, archive)


def test_goes_through_the_proxy_of_the_environment(tmp_path, monkeypatch):
    archive, content, _ = corruptions(images=20)
    with serving(a=File(content)) as server:
        monkeypatch.setenv("http_proxy", server.url(""))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        archive = at(archive, "http://archives.invalid/a")
        assert_right(download(archive, tmp_path, policy=FAST), content, archive)
    assert server.requests[0].path == "http://archives.invalid/a"


def test_keeps_a_gz_as_it_is_when_the_server_calls_it_an_encoding(tmp_path):
    content = gzip.compress(bytes(range(256)) * 100)
    archive = describe(content, "x.tar.gz", [Member(name="x", shape=(1,))])
    with serving(a=File(content, headers={"Content-Encoding": "gzip"})) as server:
        archive = at(archive, server.url("a"))
        assert_right(download(archive, tmp_path, policy=FAST), content, archive)


def test_uses_a_file_that_is_already_there(tmp_path):
    archive, content, _ = corruptions(images=1)
    (tmp_path / archive.name).write_bytes(content)
    assert download(archive, tmp_path, policy=FAST) == tmp_path / archive.name  # its URL is a closed port


def test_nobody_answers(tmp_path):
    archive, _, _ = corruptions(images=1)
    with pytest.raises(ArchiveError) as error:
        download(archive, tmp_path, policy=FAST)
    assert_clear(error, archive, tmp_path, "Connection refused", "data.archives")
    assert not list(tmp_path.glob("*.part*"))


def test_two_processes_fetch_it_once(tmp_path):
    archive, content, _ = corruptions()
    with serving(a=File(content, rate=20e6)) as server, ThreadPoolExecutor(2) as pool:
        archive = at(archive, server.url("a"))
        both = [pool.submit(download, archive, tmp_path, None, FAST) for _ in range(2)]
        paths = {future.result() for future in both}
    assert_right(paths.pop(), content, archive)
    assert not paths and server.sent < len(content) + 10_000


def test_fetches_only_the_chosen_members(tmp_path):
    archive, content, arrays = corruptions(names=("a", "b", "fog", "c", "d", "e"))
    with serving(a=File(content)) as server:
        archive = at(archive, server.url("a"))
        path = download(archive, tmp_path, ["fog"], FAST)
        assert path.name == "CIFAR-10-C.tar.part"
        assert server.sent < arrays["fog"].nbytes + arrays["labels"].nbytes + 100_000
        unpack([(archive, path)], tmp_path / "c", ["fog"])
        assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["fog.npy", "labels.npy"]
        np.testing.assert_array_equal(np.load(tmp_path / "c/fog.npy"), arrays["fog"])
        # A wider choice brings only what is new, and the whole is verified as the whole.
        shutil.rmtree(tmp_path / "c")
        whole = download(archive, tmp_path, policy=FAST)
        assert server.sent < len(content) + 100_000
    assert_right(whole, content, archive)


def test_a_chosen_member_is_verified(tmp_path):
    archive, content, arrays = corruptions(images=20)
    wrong = content.replace(arrays["fog"][0].tobytes(), arrays["fog"][1].tobytes())
    with serving(a=File(wrong), b=File(content)) as server:
        only = at(archive, server.url("a"))
        with pytest.raises(ArchiveError) as error:
            download(only, tmp_path, ["fog"], FAST)
        assert_clear(error, only, tmp_path, "fog.npy", archive.members["fog.npy"].md5)
        path = download(at(archive, server.url("a"), server.url("b")), tmp_path, ["fog"], FAST)
    unpack([(archive, path)], tmp_path / "c", ["fog"])
    np.testing.assert_array_equal(np.load(tmp_path / "c/fog.npy"), arrays["fog"])


def test_chosen_members_from_a_server_without_ranges(tmp_path):
    archive, content, _ = corruptions(images=20)
    with serving(a=File(content, ranges=False)) as server:
        path = download(at(archive, server.url("a")), tmp_path, ["fog"], FAST)
    assert_right(path, content, archive)


def test_an_unknown_name(tmp_path):
    archive, _, _ = corruptions(images=1)
    with pytest.raises(ArchiveError, match=r"holds no smog.*fog, frost, snow"):
        download(archive, tmp_path, ["smog", "fog"], FAST)


@pytest.fixture
def small_disk(tmp_path, mount_disk):
    return mount_disk(tmp_path / "disk", 4)


def test_a_disk_that_is_too_small_is_seen_before_the_start(small_disk):
    archive, content, _ = corruptions(images=400)
    with serving(a=File(content)) as server:
        archive = at(archive, server.url("a"))
        with pytest.raises(
            ArchiveError, match=r"needs 0\.\d+ GB on the disk of .*, which has 0\.\d+ GB free"
        ):
            download(archive, small_disk, policy=FAST)
    assert server.sent < 10_000


def test_a_disk_that_fills_up(small_disk):
    archive, content, _ = corruptions(images=400)
    with serving(a=File(content, ranges=False, length=False)) as server:
        archive = at(archive, server.url("a")).model_copy(update={"bytes": None})
        with pytest.raises(ArchiveError) as error:
            download(archive, small_disk, policy=FAST)
    assert_clear(error, archive, small_disk, os.strerror(errno.ENOSPC), str(small_disk))


def test_a_disk_that_fills_up_and_is_cleared(small_disk):
    archive, content, _ = corruptions(images=70)
    ballast = small_disk / "ballast"
    with serving(a=File(content, rate=5e6)) as server:
        archive = at(archive, server.url("a"))

        def fill() -> None:
            while server.sent < len(content) // 3:
                time.sleep(0.005)
            ballast.write_bytes(bytes(2 << 20))

        threading.Thread(target=fill, daemon=True).start()
        with pytest.raises(ArchiveError) as error:
            download(archive, small_disk, policy=FAST)
        assert_clear(error, archive, small_disk, os.strerror(errno.ENOSPC))
        ballast.unlink()
        before = server.sent
        assert_right(download(archive, small_disk, policy=FAST), content, archive)
        assert server.sent - before < 0.85 * len(content)


def test_space_is_added_up_for_folders_on_one_disk(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    require_space([(tmp_path / "a", 1000), (tmp_path / "b" / "c", 1000)], "This")
    with pytest.raises(ArchiveError, match=r"This needs .* GB on the disk of .*, which has .* GB free"):
        require_space([(tmp_path / "a", free // 2), (tmp_path / "b" / "c", free // 2 + (1 << 30))], "This")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=12))
def test_the_map_of_what_arrived_equals_a_set_of_bytes(tmp_path_factory, writes):
    path = tmp_path_factory.mktemp("part") / "x.part"
    arrived: set[int] = set()
    with PartFile(path) as part:
        part.begin(100)
        for start, size in writes:
            part.write(b"x" * size, start)
            arrived |= set(range(start, start + size))
        part.forget(10, 15)
        arrived -= set(range(10, 15))
        part.checkpoint()
    with PartFile(path) as part:
        assert part.total == 100 and part.received == len(arrived)
        gaps = part.missing(5, 95)
        assert [i for a, b in gaps for i in range(a, b)] == [i for i in range(5, 95) if i not in arrived]
        assert all(a < b for a, b in gaps)
        assert part.prefix == next(i for i in range(101) if i not in arrived)


def test_after_a_reboot_only_what_was_flushed_counts(tmp_path, monkeypatch):
    path = tmp_path / "x.part"
    with PartFile(path) as part:
        part.begin(1000)
        part.write(bytes(100), 0)
        part.checkpoint()
        part.write(bytes(100), 200)
    with PartFile(path) as part:
        assert part.received == 200
    (tmp_path / "boot").write_text("another", encoding="utf-8")
    monkeypatch.setattr(part_file, "_BOOT_ID", tmp_path / "boot")
    with PartFile(path) as part:
        assert part.received == 100 and part.prefix == 100


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"done": 3}']
    + [
        json.dumps({"total": total, "done": done, "synced": done, "boot": None})
        for total, done in [(10, [[0, 99]]), (9, [[5, 2]]), (9, [[0, 10]]), (99, [[0, 11]]), (None, [])]
    ],
)
def test_a_map_that_cannot_be_right_counts_as_none(tmp_path, text):
    (tmp_path / "x.part").write_bytes(bytes(10))
    (tmp_path / "x.part.map").write_text(text, encoding="utf-8")
    with PartFile(tmp_path / "x.part") as part:
        assert part.total is None and part.received == 0 and part.missing(0, 10) == [(0, 10)]


def test_the_published_archives():
    archives = read_archives(ROOT / "data/archives.yaml")
    assert [a.name for a in archives_of(archives, "cifar10", "c")] == ["CIFAR-10-C.tar"]
    assert len(archives_of(archives, "mnist", "clean")) == 4
    with pytest.raises(ArchiveError, match="generate"):
        archives_of(archives, "cifar100", "p")
    # A tar is a header and a body in blocks of 512 bytes for each member, a folder entry and two empty blocks, padded
    # to 10,240 bytes: only uint8 labels make the published size of CIFAR-10-C. CIFAR-100-C has a README besides
    # (a header and 1,024 bytes) and no padding.
    for name, extra, record in (("CIFAR-10-C.tar", 0, 10240), ("CIFAR-100-C.tar", 1536, 512)):
        members = archives[name].members.values()
        size = sum(512 + -(-(m.nbytes + 80) // 512) * 512 for m in members) + 512 + 1024 + extra
        assert -(-size // record) * record == archives[name].bytes
        assert len(members) == 20 and all(m.md5 for m in members)
    perturbed = archives["CIFAR-10-P.tar"].members
    assert len(perturbed) == 20 and abs(sum(m.nbytes for m in perturbed.values()) - 18.28e9) < 0.005e9


@pytest.mark.parametrize(
    ("line", "replacement", "key"),
    [
        ("bytes: 170498071", "bytes: 170498071\n  mirror: x", "mirror"),
        ("md5: c58f30108f718f92721af3b95e74349a", "md5: c58f", "md5"),
        ("part: clean", "part: train", "part"),
        ("- https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "- cs.toronto.edu", "urls"),
        ("shape: [10000, 3072]", "shape: [10000, 0]", "shape"),
        ("cifar-10-python.tar.gz:", "cifar-10-python.tar.gz: [", ""),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, line, replacement, key):
    text = (ROOT / "data/archives.yaml").read_text(encoding="utf-8")
    path = tmp_path / "archives.yaml"
    path.write_text(text.replace(line, replacement, 1), encoding="utf-8")
    with pytest.raises(ArchiveError, match=rf"archives\.yaml[\s\S]*{key}"):
        read_archives(path)
