"""Draw docs/results.png: push-pull minus baseline of ResNet-20 on each corruption, from the records in metrics/.

python -m docs.results_picture
"""

from pathlib import Path

from stages.page import figures
from stages.page.figures import Differences
from stages.page.paired import read_agreement, read_differences, series

PICTURE = Path(__file__).with_name("results.png")
METRICS = Path(__file__).parents[1] / "metrics"


def panel() -> list[Differences]:
    """Nets trained here for 20 and for 200 epochs, the authors' as measured here, and what they published."""
    trained = read_differences(METRICS / "cifar10-jpeg" / "tables" / "difference.csv")
    trained = trained[trained.baseline == "resnet20"]
    long = read_differences(METRICS / "cifar10-jpeg-200" / "tables" / "difference.csv")
    theirs = read_agreement(METRICS / "cifar10-authors" / "tables" / "agreement.csv")
    theirs = theirs[theirs.baseline.str.startswith("resnet-20 ")]
    return [
        series(trained, "here, 20 epochs (seeds and images)", "difference", "low", "high"),
        series(long, "here, 200 epochs (images)", "difference", "low_images", "high_images"),
        series(theirs, "authors' nets (509 images)", "measured", "low_images", "high_images"),
        Differences("published", theirs.condition.tolist(), theirs.published.tolist()),
    ]


if __name__ == "__main__":
    figures.differences(PICTURE, {"ResNet-20, 95 % intervals over what stands in brackets": panel()})
