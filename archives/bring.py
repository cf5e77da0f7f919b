"""Published data sets: which parts of a set are published, and bringing one from its archives to a folder.

The archives are found where the user put them, or downloaded, then unpacked.
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
        out: the new folder; it appears when it is whole.
        scratch: folder for unfinished work and locks, one for all processes that may bring the same set.
        placed: folder where archives are looked for and, if missing, downloaded to and kept. Without it they are
            downloaded to a folder in `scratch` and removed once they are unpacked.
        members: corruptions or perturbations to take; by default all.
        ranges: download these members alone, so that nobody waits for 18 GB for one table; the digest of the whole
            archive then cannot be checked.

    Raises:
        ArchiveError: as `download` and `unpack` do, and before the first byte when archives and arrays together do
            not fit on the disk.
        OSError: `scratch` cannot be written to.
    """
    label = f"{found[0].data}-{found[0].part}"
    asked = members if ranges else None
    scratch.mkdir(parents=True, exist_ok=True)
    with FileLock(scratch / f"archives-{label}.lock"):  # else another process removes what this one unpacks
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
    """How many bytes `download` will write: those of the archive or of its chosen members, less what has arrived."""
    if (folder / archive.name).exists():
        return 0
    size = sum(member.nbytes for member in archive.choose(names))
    if names is None and archive.bytes is not None:
        size = archive.bytes
    part = folder / f"{archive.name}.part"
    arrived = part.stat().st_blocks * 512 if part.exists() else 0  # holes take no blocks
    return max(size - arrived, 0)
