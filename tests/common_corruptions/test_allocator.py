"""Memory that is freed and wanted again, counted in the pages that the system has to clear for it."""

import os
import platform
import subprocess
import sys

import pytest

from common_corruptions.allocator import OWN

AGAIN = """
import resource
{}
def large():
    bytearray(b"x") * (1 << 26)
large()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    large()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
CALL = "from common_corruptions.allocator import keep_freed_memory; keep_freed_memory()"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize(
    ("first", "own", "kept"),
    [
        ("", {}, False),
        (CALL, {}, True),
        ("import stages", {}, True),
        ("import common_corruptions", {}, False),  # the memory of a program that imports it is its own affair
        (CALL, {"MALLOC_TRIM_THRESHOLD_": "131072"}, False),
    ],
)
def test_pages_are_cleared_once(first, own, kept):
    others = {name: value for name, value in os.environ.items() if name not in OWN}
    command = [sys.executable, "-c", AGAIN.format(first)]
    done = subprocess.run(command, env=others | own, capture_output=True, encoding="utf-8", check=True)
    pages = 4 * (1 << 26) / os.sysconf("SC_PAGESIZE")
    assert int(done.stdout) < pages / 10 if kept else int(done.stdout) > pages / 2
