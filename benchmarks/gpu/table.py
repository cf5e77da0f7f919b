"""The results as a page to read."""

from typing import Any

NOTE = "cifar10-jpeg is a lossy JPEG copy (quality 75) of CIFAR-10: another, harder set, not to be compared with it."


def markdown(results: dict[str, Any]) -> str:
    """Every part's state, and what it found, as tables."""
    parts = results["parts"]
    device = next((part["device"] for part in parts.values() if "device" in part), "GPU")
    lines = [f"# {device}, {results['data']}", "", NOTE, ""]
    if results["dry_run"]:
        lines += ["A dry run on a few images: none of these figures means anything.", ""]
    lines += ["| part | state | seconds |", "|---|---|---|"]
    lines += [f"| {name} | {part['status']} | {part.get('seconds', '')} |" for name, part in parts.items()]
    for name, section in SECTIONS.items():
        if name in parts and (found := section(parts[name])):
            lines += ["", f"## {name}", "", *found]
    return "\n".join(lines) + "\n"


def machine(part: dict[str, Any]) -> list[str]:
    hidden = ("status", "seconds")
    return [f"- {key}: {value}" for key, value in part.items() if key not in hidden]


def smoke(part: dict[str, Any]) -> list[str]:
    failed = part.get("failed", {})
    counts = f"{part.get('tests', 0)} tests ended: {part.get('passed', 0)} passed, {len(failed)} failed"
    return [
        f"{counts}, {part.get('skipped', 0)} skipped.",
        "",
        *(f"- {name}: {message}" for name, message in failed.items()),
    ]


def determinism(part: dict[str, Any]) -> list[str]:
    lines = table(
        ["way", "same seed", "after a stop", "as eager", ""],
        [
            [way, *(row.get(key, "") for key in ("same_seed", "stopped", "as_eager", "failed"))]
            for way, row in part.get("ways", {}).items()
        ],
    )
    return [*lines, "", f"Operations that warn: {', '.join(part.get('warnings', [])) or 'none'}."]


def training(part: dict[str, Any]) -> list[str]:
    rows = []
    for net, ways in part.get("nets", {}).items():
        reference = ways.get("textbook", {}).get("images_per_second")
        for way, row in ways.items():
            speed = row.get("images_per_second", row.get("failed", row.get("skipped")))
            ratio = f"{speed / reference:.1f}" if reference and isinstance(speed, float) else ""
            counts = [row.get("kernels_per_step", ""), row.get("microseconds_per_step", "")]
            rows.append([net, way, speed, ratio, *counts])
    lines = table(["net", "way", "images/s", "to the textbook loop", "kernels a step", "their µs"], rows)
    together = [
        [row["way"], row["trainings"], row.get("images_per_second", row.get("failed"))]
        for row in part.get("together", [])
    ]
    return [*lines, "", *table(["way", "trainings side by side", "images/s of all"], together)]


def compiled(part: dict[str, Any]) -> list[str]:
    rows = [
        [net, way, row.get("images_per_second", row.get("failed")), row["seconds"]]
        for net, ways in part.get("nets", {}).items()
        for way, row in ways.items()
    ]
    return table(["net", "way", "images/s", "seconds to compile and measure"], rows)


def layer(part: dict[str, Any]) -> list[str]:
    algorithms = (
        "deterministic algorithms"
        if part.get("deterministic")
        else "algorithms that need not be deterministic"
    )
    lines = [f"By {algorithms}.", ""]
    for kind in ("eager", "graph"):
        rows = part.get("rows", [])
        names = list(dict.fromkeys(name for row in rows for name in (*row[kind], *row["failed"])))
        heads = ["batch", "channels", "layout", "arithmetic", *names]
        cells = [
            [*(row[key] for key in heads[:4]), *(short(row[kind].get(n)) for n in names)] for row in rows
        ]
        lines += [f"Milliseconds, {kind}; a dash is a variant that did not run (results.json says why).", ""]
        lines += [*table(heads, cells), ""]
    return lines[:-1]


def recipe(part: dict[str, Any]) -> list[str]:
    heads = ["net", "seed", "together", "seconds", "images_per_second", "test_error"]
    rows = [
        [*(run.get(key, "") for key in heads), run.get("skipped", run.get("given_up", run.get("failed", "")))]
        for run in part.get("runs", [])
    ]
    return [f"{part.get('epochs')} epochs, {part.get('way')}.", "", *table([*heads, ""], rows)]


def evaluation(part: dict[str, Any]) -> list[str]:
    heads = ["seconds_c", "seconds_p", "E_clean", "E_corr", "mCE", "rCE", "mFP"]
    rows = [
        [net, *(f"{row[key]:.2f}" if key in row else "" for key in heads)]
        for net, row in part.get("nets", {}).items()
    ]
    return [*([part["failed"]] if "failed" in part else []), *table(["net and seed", *heads], rows)]


def short(value: float | None) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "–"


def table(heads: list[str], rows: list[list[Any]]) -> list[str]:
    """A Markdown table; nothing without rows."""
    if not rows:
        return []
    body = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(str(cell) for cell in row) + " |" for row in body]


SECTIONS = {
    "machine": machine,
    "smoke": smoke,
    "determinism": determinism,
    "training": training,
    "compiled": compiled,
    "layer": layer,
    "recipe": recipe,
    "evaluation": evaluation,
}
