"""The parent: starts one part after the other, each with its limit, and puts together what they have found.

It imports no torch and touches no GPU, so nothing that happens to a part happens to it.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.gpu.setting import DATA_FILE, NORMALISER_FILE, PUSHPULL, TRAINED, Setting, write_whole
from benchmarks.gpu.table import markdown

# Seconds for each part, the most valuable first.
LIMITS = {
    "machine": 15,
    "smoke": 45,
    "determinism": 40,
    "training": 85,
    "compiled": 60,
    "layer": 60,
    "recipe": 155,
    "evaluation": 80,
}
# What a part writes besides its findings, and makes anew where it runs again.
FILES = {
    "recipe": ("history.csv", "weights.pt", NORMALISER_FILE),
    "evaluation": ("corruption.csv", "perturbation.csv", "answers.npz"),
}
LAST_WORDS = 3  # seconds that a part has to end by itself once it is told to


@click.command(help=__doc__.split("\n\n")[0])
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help=f"Folder with {DATA_FILE}.",
)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="For the results."
)
@click.option(
    "--minutes", default=9.0, show_default=True, type=click.FloatRange(0, min_open=True), help="For all."
)
@click.option("--only", help=f"Parts, with commas between: {','.join(LIMITS)}.")
@click.option(
    "--seeds", default="0,1,2", show_default=True, help="Of the trainings, as far as there is time."
)
@click.option(
    "--nets", default=",".join(TRAINED), show_default=True, help=f"To be trained: of {','.join(PUSHPULL)}."
)
@click.option(
    "--way",
    help="To train, as 'bf16 nhwc graph'; by default that of --earlier, or by what has been measured.",
)
@click.option(
    "--earlier",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="results.json of an earlier call on such a card, whose parts count where they do not run again.",
)
@click.option(
    "--dry-run", is_flag=True, help="A few images and an epoch: does every part run? Also on a CPU."
)
def main(
    data: Path,
    out: Path,
    minutes: float,
    only: str | None,
    seeds: str,
    nets: str,
    way: str | None,
    earlier: Path | None,
    dry_run: bool,
) -> None:
    """Run the parts in their order until the time is up; status 1 where one did not run, or found that things fail."""
    deadline = time.monotonic() + 60 * minutes
    parts = chosen_parts(only)
    if not all(seed.isdecimal() for seed in seeds.split(",")):
        raise click.UsageError(f"--seeds are numbers with commas between, got {seeds!r}")
    if unknown := [name for name in nets.split(",") if name not in PUSHPULL]:
        raise click.UsageError(f"--nets: no net {', '.join(unknown)}; there are {', '.join(PUSHPULL)}")
    if not (data / DATA_FILE).is_file():
        raise click.UsageError(f"{data} holds no {DATA_FILE}")
    if (out / "results.json").exists():
        raise click.UsageError(f"{out} holds the results of another call; give another folder")
    known = read_earlier(earlier, parts, dry_run) if earlier else {}
    way = way or known.get("recipe", {}).get("way")
    if way and not re.fullmatch("(fp32|tf32|bf16) (nchw|nhwc) (eager|graph)", way):
        raise click.UsageError(
            f"--way is a precision, a layout and a kind, as 'bf16 nhwc graph', got {way!r}"
        )
    out.mkdir(parents=True, exist_ok=True)
    # A later call on this machine finds sets, and weights to measure, there; a dry run has a folder of its own.
    work = Path(tempfile.mkdtemp() if dry_run else Path(tempfile.gettempdir()) / "pushpull-gpu")
    work.mkdir(exist_ok=True)
    setting = Setting(data, work, tuple(map(int, seeds.split(","))), tuple(nets.split(",")), way, dry_run)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    # Interpreters that start later wait for nothing: tests and parts read these as they start.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for name, part in known.items():
        setting.keep(name, part)
    status = {name: {"status": "not run"} for name in parts}
    for name in parts:
        setting.part_file(name).unlink(missing_ok=True)
    clear_files(setting, parts)
    with contextlib.ExitStack() as at_the_end:
        if dry_run:
            at_the_end.callback(shutil.rmtree, work, ignore_errors=True)
        if "machine" not in parts and "evaluation" in parts:
            at_the_end.enter_context(generating(setting, out))  # what an earlier call did not end
        for place, name in enumerate(parts):
            left = deadline - time.monotonic()
            # A dry run asks whether each part runs, and not whether a CPU is as fast as a GPU.
            limit = left if dry_run else limit_of(name, parts[place + 1 :], left)
            if limit < 1:
                status[name] = {"status": "not run: no time left"}
                continue
            run_part(setting, out, name, limit, status)
            if name == "machine":
                check_card(setting, known)
                if "evaluation" in parts:
                    at_the_end.enter_context(generating(setting, out))
        publish(setting, out, status)
    click.echo((out / "results.md").read_text(encoding="utf-8"))
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    if wrong := [name for name in parts if not sound(results["parts"][name])]:
        raise click.ClickException(
            f"of {', '.join(wrong)} not all has run as it should, see {out / 'log.txt'}"
        )


def read_earlier(path: Path, parts: Sequence[str], dry_run: bool) -> dict[str, Any]:
    """What the parts of an earlier call have found.

    Raises:
        click.UsageError: it was a dry run, or the part that tells the cards apart is not to run.
    """
    results = json.loads(path.read_text(encoding="utf-8"))
    if results["dry_run"] and not dry_run:
        raise click.UsageError(f"{path} is of a dry run, whose figures mean nothing")
    if "machine" not in parts:
        raise click.UsageError("--earlier needs the part machine, which tells whether this is the same card")
    return results["parts"]


def check_card(setting: Setting, known: dict[str, Any]) -> None:
    """Refuse speeds and bits of another card, which say nothing of this one, and leave none of them for a later call.

    Raises:
        click.ClickException: the earlier call ran on another.
    """
    then, now = known.get("machine", {}).get("device"), setting.found("machine").get("device")
    if then and now and then != now:
        for name in known.keys() - {"machine"}:
            setting.part_file(name).unlink(missing_ok=True)
        raise click.ClickException(
            f"--earlier is of {then}, this is {now}: run the parts determinism and training here, or name the --way, "
            f"without --earlier"
        )


def clear_files(setting: Setting, parts: Sequence[str]) -> None:
    """Remove what earlier calls on this machine wrote in parts that run now, so that nothing of them is mixed in.

    What was measured of nets goes with the nets.
    """
    for part in FILES if "recipe" in parts else parts:
        for name in FILES.get(part, ()):
            (setting.work / name).unlink(missing_ok=True)
    if "recipe" in parts:
        setting.part_file("evaluation").unlink(missing_ok=True)


def sound(part: dict[str, Any]) -> bool:
    """Whether a part was done, and has nothing in it that failed or was given up."""
    return part["status"] == "done" and not part.get("exit") and not any_failed(part)


def any_failed(found: Any) -> bool:
    """Whether anything of the keys `failed` and `given_up` is in what a part has found."""
    if isinstance(found, dict):
        return bool(found.get("failed") or found.get("given_up")) or any(map(any_failed, found.values()))
    return isinstance(found, list) and any(map(any_failed, found))


def chosen_parts(only: str | None) -> list[str]:
    """The parts to run, in their order.

    Raises:
        click.UsageError: one that there is not.
    """
    names = only.split(",") if only else list(LIMITS)
    if unknown := [name for name in names if name not in LIMITS]:
        raise click.UsageError(f"--only: no part {', '.join(unknown)}; there are {', '.join(LIMITS)}")
    return [name for name in LIMITS if name in names]


def limit_of(name: str, later: Sequence[str], left: float) -> float:
    """Seconds for a part: its own limit, and what the others have left unused of theirs."""
    return min(left, max(LIMITS[name], left - sum(LIMITS[other] for other in later)))


def run_part(setting: Setting, out: Path, name: str, limit: float, status: dict[str, dict[str, Any]]) -> None:
    """Run one part to its end or to its limit, and publish what it finds as it finds it."""
    click.echo(f"== {name}: {limit:.0f} s")
    started = time.monotonic()
    with open(out / "log.txt", "ab") as log:
        log.write(f"== {name}\n".encode())
        log.flush()
        child = subprocess.Popen(
            command(setting, f"benchmarks.gpu.part {name}", limit),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            seen = None
            while child.poll() is None and time.monotonic() - started < limit:
                time.sleep(0.2)
                file = setting.part_file(name)
                if file.exists() and file.stat().st_mtime_ns != seen:
                    seen = file.stat().st_mtime_ns
                    status[name] = {"status": "running"}
                    publish(setting, out, status)
        finally:
            stopped = child.poll() is None
            end(child)
    seconds = round(time.monotonic() - started, 1)
    if stopped:
        said = "stopped at its limit"
    else:
        said = "done" if child.returncode == 0 else f"failed with status {child.returncode}, see log.txt"
    status[name] = {"status": said, "seconds": seconds}
    setting.keep(name, setting.found(name) | status[name])  # for a later call
    publish(setting, out, status)
    click.echo(f"   {said}, {seconds} s")


@contextlib.contextmanager
def generating(setting: Setting, out: Path):
    """Make the C and P sets on the CPU cores meanwhile."""
    with open(out / "log.txt", "ab") as log:
        child = subprocess.Popen(
            command(setting, "benchmarks.gpu.sets", 600), stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        end(child)


def command(setting: Setting, module: str, limit: float) -> list[str]:
    """The command line of a process that runs a module with the setting."""
    options = ["--data", str(setting.data), "--work", str(setting.work), "--limit", str(limit)]
    options += ["--seeds", ",".join(map(str, setting.seeds)), "--nets", ",".join(setting.nets)]
    options += ["--way", setting.way] if setting.way else []
    options += ["--dry-run"] if setting.dry_run else []
    return [sys.executable, "-u", "-m", *module.split(), *options]


def end(child: subprocess.Popen) -> None:
    """End a process and all that it started."""
    for kind, patience in ((signal.SIGTERM, LAST_WORDS), (signal.SIGKILL, None)):
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, kind)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(patience)
    with contextlib.suppress(ProcessLookupError):  # what it left behind
        os.killpg(child.pid, signal.SIGKILL)


def publish(setting: Setting, out: Path, status: dict[str, dict[str, Any]]) -> None:
    """Write results.json, the table and the files of the parts to the folder of the results, each whole."""
    every = {
        name: {"status": "not run"} | setting.found(name) | status.get(name, {})
        for name in LIMITS
        if name in status or setting.part_file(name).exists()
    }
    results = {"data": DATA_FILE.removesuffix(".npz"), "dry_run": setting.dry_run, "parts": every}
    write_whole(out / "results.json", json.dumps(results, indent=1) + "\n")
    write_whole(out / "results.md", markdown(results))
    for name in [name for files in FILES.values() for name in files if name != NORMALISER_FILE]:
        source, target = setting.work / name, out / name
        if not source.exists():
            continue
        written = source.stat().st_mtime_ns  # before the copy: one that is replaced meanwhile is copied again
        if not target.exists() or target.stat().st_mtime_ns != written:
            part = target.with_name(name + ".part")
            shutil.copyfile(source, part)
            os.utime(part, ns=(written, written))
            os.replace(part, target)


if __name__ == "__main__":
    main()
