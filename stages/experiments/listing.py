"""`make exps`: list each experiment with the parameters that it changes and the results that differ.

`dvc exp show` gives every parameter and result a column, and omits the columns that do not fit the terminal. This list
puts them below each other instead.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from stages.files.params import PRESETS
from stages.files.writing import show

DVC = [sys.executable, "-X", "utf8", "-m", "dvc", "exp", "show", "--json"]
COLUMNS = {"mCE": "mCE", "E_corr": "E", "E_clean": "clean", "mFP": "mFP"}
WIDTH = 7  # of a result: "100.00" and a space


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(options: tuple[str, ...]) -> None:
    """List the experiments of this commit, or those chosen by OPTIONS of `dvc exp show`, such as -A."""
    done = subprocess.run(
        [*DVC, *options], stdout=subprocess.PIPE, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        raise click.ClickException("`dvc exp show` failed; see above")
    commits = json.loads(done.stdout)
    if not commits:
        raise click.ClickException("nothing is committed yet, and every experiment starts from a commit")
    show("\n".join(lines(commits)))


def lines(commits: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of the list, from the output of `dvc exp show --json`.

    A commit is listed with the results of every net in percent. An experiment is listed with the parameters that differ
    from those of its commit, and the nets whose results differ; the workspace is compared with the first commit.
    """
    yield "".join(f"{heading:>{WIDTH}}" for heading in COLUMNS.values()) + "  net"
    workspace, *others = commits
    for commit in others:
        yield ""
        yield f"{commit['name'] or commit['rev'][:7]}" + ("" if commit["data"] else f": {reason(commit)}")
        yield from results(commit["data"], None)
        for experiment in commit["experiments"] or []:
            yield from entry(experiment["name"], experiment["revs"][-1], experiment["executor"], commit)
        if commit is others[0]:
            yield from entry("workspace", workspace, None, commit)


def entry(name: str | None, found: dict[str, Any], executor: dict | None, commit: dict) -> Iterator[str]:
    """The lines of an experiment, or of the workspace if it differs from the commit."""
    before, after = parameters(commit["data"]), parameters(found["data"])
    changed = [
        f"{key}={after.get(key, 'none')}"
        for key in {**before, **after}
        if before.get(key) != after.get(key) and not key.startswith(tuple(f"{name}." for name in PRESETS))
    ]
    unfinished = executor and executor["state"] != "success"
    rows = [] if unfinished else list(results(found["data"], commit["data"]))
    if name == "workspace" and not changed and not rows:
        return
    yield ""
    yield f"{name or found['rev'][:7]}: {', '.join(changed) or 'no other parameter'}"
    if found["data"] is None:
        yield f"  {reason(found)}"
    elif unfinished:
        yield f"  {executor['state']}"
    else:
        measured = any("data" in file for file in found["data"]["metrics"].values())
        yield from rows or ["  the same results" if measured else "  no results"]


def parameters(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Value of every parameter by its path, such as `pushpull.alpha`."""
    found: dict[str, Any] = {}
    for file in ((data or {}).get("params") or {}).values():
        found |= flat(file.get("data") or {})
    return found


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of each leaf of nested mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def results(data: Mapping[str, Any] | None, before: Mapping[str, Any] | None) -> Iterator[str]:
    """A line for each net whose results differ from those before."""
    new, old = ((one or {}).get("metrics") or {} for one in (data, before))
    for path, file in new.items():
        content, earlier = file.get("data") or {}, old.get(path, {}).get("data") or {}
        if path.endswith("/summary.json"):
            for net, values in content.items():
                if values != earlier.get(net):
                    yield "".join(number(values.get(key)) for key in COLUMNS) + f"  {net}"
        elif content != earlier:  # of a study: errors by sweep and level
            means = [f"{sweep} {sum(of.values()) / len(of):.2f}" for sweep, of in content.items()]
            yield f"  {', '.join(means)}  {path.rpartition('/')[2].removesuffix('.json')}"


def number(value: float | None) -> str:
    """Format a value in percent, padded to the width of a column."""
    return f"{'-' if value is None else format(value, '.2f'):>{WIDTH}}"


def reason(found: Mapping[str, Any]) -> str:
    """The reason why DVC cannot show an experiment, on one line."""
    return " ".join(str((found["error"] or {}).get("msg", "no results")).split())


if __name__ == "__main__":
    main()
