"""A part of a published data set, from its archives: found where the user put them, or downloaded, then unpacked."""

import shutil
from collections.abc import Collection
from pathlib import Path

from stages import tracking
from stages.archives import ARCHIVES, archives_of, read_archives
from stages.download import download
from stages.unpack import unpack


def bring(
    name: str,
    part: str,
    out: Path,
    placed: str | None,
    members: Collection[str] | None = None,
    *,
    ranges: bool = False,
    archives: Path = ARCHIVES,
) -> None:
    """Write `datasets/<name>/<part>` to the folder `out`.

    Args:
        name, part: the set and its part (clean, c or p) in archives.yaml.
        out: the new folder; it appears when it is whole.
        placed: folder where archives are looked for and, if missing, downloaded to and kept. Without it they are
            downloaded to a scratch folder and removed once they are unpacked.
        members: corruptions or perturbations to take; by default all.
        ranges: download these members alone, so that nobody waits for 18 GB for one table; the digest of the whole
            archive then cannot be checked.
        archives: the list of archives.

    Raises:
        ArchiveError: as `archives_of`, `download` and `unpack` do.
    """
    folder = Path(placed).expanduser() if placed else tracking.scratch() / "archives"
    found = archives_of(read_archives(archives), name, part)
    unpack(
        [(archive, download(archive, folder, members if ranges else None)) for archive in found], out, members
    )
    if not placed:
        shutil.rmtree(folder)
