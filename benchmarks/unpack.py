"""How fast is an archive of 1 GB turned into verified arrays, against plain `tar -x` followed by `md5sum` of it?

The archive has the layout of CIFAR-10-C.tar and random content. "md5 of members" is the case of CIFAR-10-C, each of
whose members has a published md5; "md5 of archive" is that of CIFAR-10-P, where the whole file is hashed beside the
unpacking. The runs alternate, each after a `sync`, and all find the archive in the page cache. Ours run in a process
of their own, whose largest resident memory is read; the time is that of `unpack`, without the start of Python.

    python -m benchmarks.unpack
"""

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from archives.catalogue import Archive
from benchmarks.report import machine, write_json

RESULTS = Path(__file__).parent / "results" / "unpack.json"
SHAPE = (50_000, 32, 32, 3)
CASES = ("md5 of members", "md5 of archive")
OURS = r"""
import json, re, sys, time
from pathlib import Path
from archives.catalogue import Archive
from archives.unpack import unpack
archive = Archive.model_validate_json(sys.stdin.read())
begin = time.perf_counter()
unpack([(archive, Path(sys.argv[1]))], Path(sys.argv[2]))
seconds = time.perf_counter() - begin
memory = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))[1]) / 1024
print(json.dumps([seconds, memory]))
"""


def make_archive(folder: Path, members: int) -> Archive:
    """Write CIFAR-10-C.tar of `members` random arrays into `folder` with `tar` itself; return its entry."""
    rng = np.random.default_rng(0)
    inside = folder / "CIFAR-10-C"
    inside.mkdir()
    entries = {}
    for number in range(members):
        path = inside / f"corruption_{number}.npy"
        np.save(path, rng.integers(0, 256, SHAPE, np.uint8))
        entries[path.name] = {"shape": SHAPE, "md5": _md5(path)}
    path = folder / "CIFAR-10-C.tar"
    subprocess.run(["tar", "-cf", path, "-C", folder, inside.name], check=True)
    shutil.rmtree(inside)
    return Archive(
        name=path.name,
        data="cifar10",
        part="c",
        layout="npy",
        folder=inside.name,
        urls=[path.as_uri()],
        bytes=path.stat().st_size,
        md5=_md5(path),
        members=entries,
    )


def time_reference(path: Path, folder: Path) -> float:
    """Seconds of `tar -x` and `md5sum`, one after the other."""
    folder.mkdir()
    begin = time.perf_counter()
    subprocess.run(["tar", "-xf", path, "-C", folder], check=True)
    subprocess.run(["md5sum", path], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def time_ours(archive: Archive, path: Path, folder: Path) -> tuple[float, float]:
    """Seconds of `unpack`, and the largest resident memory of its process in MB (2**20 bytes)."""
    command = [sys.executable, "-c", OURS, path, folder]
    run = subprocess.run(command, input=archive.model_dump_json().encode(), capture_output=True, check=True)
    seconds, memory = json.loads(run.stdout)
    return seconds, memory


def measure(folder: Path, members: int, repeats: int) -> dict:
    """Alternate reference and ours `repeats` times in `folder`."""
    archive = make_archive(folder, members)
    bare = {name: member.model_copy(update={"md5": None}) for name, member in archive.members.items()}
    entries = {CASES[0]: archive, CASES[1]: archive.model_copy(update={"members": bare})}
    path, target = folder / archive.name, folder / "out"
    reference: list[float] = []
    ours: dict[str, list[float]] = {case: [] for case in CASES}
    memory = dict.fromkeys(CASES, 0.0)
    for _ in range(repeats):
        os.sync()
        reference.append(time_reference(path, target))
        shutil.rmtree(target)
        for case, entry in entries.items():
            os.sync()
            seconds, most = time_ours(entry, path, target)
            shutil.rmtree(target)
            ours[case].append(seconds)
            memory[case] = max(memory[case], most)
    return {
        "machine": machine(),
        "archive_bytes": archive.bytes,
        "tar_and_md5sum_seconds": reference,
        "cases": {
            case: {
                "seconds": ours[case],
                "throughput_ratio": statistics.median(
                    r / o for r, o in zip(reference, ours[case], strict=True)
                ),
                "largest_memory_mb": memory[case],
            }
            for case in CASES
        },
    }


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--members", default=7, show_default=True, help="Arrays of 154 MB in the archive.")
@click.option("--repeats", default=5, show_default=True)
@click.option("--output", default=RESULTS, show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(members: int, repeats: int, output: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="unpack-") as folder:
        result = measure(Path(folder), members, repeats)
    write_json(output, **result)
    click.echo(f"tar -x and md5sum: {statistics.median(result['tar_and_md5sum_seconds']):.2f} s")
    for case, found in result["cases"].items():
        click.echo(
            f"{case}: {statistics.median(found['seconds']):.2f} s, {found['throughput_ratio']:.0%} of the throughput "
            f"of tar and md5sum, {found['largest_memory_mb']:.0f} MB of memory at most"
        )


if __name__ == "__main__":
    main()
