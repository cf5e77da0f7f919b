"""The page of `dvc plots show` and `dvc plots diff` with Vega embedded, so that it works without a network.

DVC's own page loads Vega from a server. `make setup` writes this page, with the copy of Vega in vl-convert-python, to
.dvc/plots/page.html and names it in .dvc/config.local; a clone that was not set up keeps DVC's own page.
"""

import subprocess
import sys
from pathlib import Path

import click
import vl_convert

from stages.files.writing import write_text

PAGE = Path(".dvc/plots/page.html")

# DVC replaces the names in braces. `{scripts}` is left out, since it would load Vega from a server.
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>DVC plots</title>
{refresh_tag}
<style>
body { margin: 2rem; font: 1rem/1.5 -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
body > div { margin-bottom: 2.5rem; overflow-x: auto; }
img { max-width: 100%; }
</style>
<script>VEGA</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def page() -> str:
    """The template for `plots.html_template` of DVC's configuration.

    Raises:
        RuntimeError: the script contains a name that DVC would replace.
    """
    names = "window.vega = vega; window.vegaLite = vegaLite; window.vegaEmbed = vegaEmbed;"
    script = vl_convert.javascript_bundle(names)
    script = script.replace("</script", "<\\/script")
    if any(name in script for name in ("{scripts}", "{plot_divs}", "{refresh_tag}")):
        raise RuntimeError(
            "this version of Vega cannot stand in a page of DVC: it holds one of DVC's placeholders"
        )
    return TEMPLATE.replace("VEGA", script, 1)


@click.command()
def main() -> None:
    """Write the page and configure DVC to use it."""
    write_text(PAGE, page())
    command = [sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", "plots/page.html"]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
