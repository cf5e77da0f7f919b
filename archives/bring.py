"""Bring one part of a published data set from its archives to a folder.

Archives are taken from where the user put them, or downloaded, and then unpacked.
"""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from filelock import FileLock

from archives.catalogue import Archive, require_space
from archives.download import download
from archives.unpack import unpack


def bring(
    found: Sequence[Archive],
    out: Path,
    scratch: Path,
    placed: Path | None = None,
    members: Collection[str] | None = None,
    *,
    ranges: bool = False,
) -> None:
    """Write the arrays of `found`, the archives of one part of a set, to the folder `out`.

    Args:
        found: at least one archive.
        out: the new folder; it appears only once it is complete.
        scratch: folder for unfinished work and locks, shared by all processes that may bring the same set.
        placed: folder in which archives are looked for and, if missing, to which they are downloaded and kept. Without
            it they are downloaded to a folder in `scratch` and removed after unpacking.
        members: corruptions or perturbations to unpack; by default all.
        ranges: download only these members, which avoids 18 GB for a single table; the digest of the whole archive
            then cannot be checked.

    Raises:
        ArchiveError: as `download` and `unpack` do; also, before anything is downloaded, if archives and arrays
            together do not fit on the disk.
        OSError: `scratch` cannot be written to.
    """
    label = f"{found[0].data}-{found[0].part}"
    asked = members if ranges else None
    scratch.mkdir(parents=True, exist_ok=True)
    with FileLock(scratch / f"archives-{label}.lock"):  # no other process may remove what this one unpacks
        passing = scratch / "archives" / label
        folder = placed or passing
        arrays = sum(member.nbytes for archive in found for member in archive.choose(members))
        require_space(
            [(out, arrays)] + [(folder, _still_to_come(archive, folder, asked)) for archive in found],
            f"Fetching and unpacking {', '.join(archive.name for archive in found)}",
        )
        unpack([(archive, download(archive, folder, asked)) for archive in found], out, members)
        shutil.rmtree(passing, ignore_errors=True)


def _still_to_come(archive: Archive, folder: Path, names: Collection[str] | None) -> int:
    """Bytes that `download` still has to write: the archive or its chosen members, minus what has arrived."""
    if (folder / archive.name).exists():
        return 0
    size = sum(member.nbytes for member in archive.choose(names))
    if names is None and archive.bytes is not None:
        size = archive.bytes
    part = folder / f"{archive.name}.part"
    arrived = part.stat().st_blocks * 512 if part.exists() else 0  # holes take no blocks
    return max(size - arrived, 0)
