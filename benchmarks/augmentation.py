"""TrivialAugment and AugMix of whole batches, against torchvision's transforms of one image at a time.

Images a second of CPU time on one thread, on random images of 32 x 32 pixels in batches of 128. torchvision's AugMix
takes the operations that ours does (`all_ops=False`). Each round times both; the ratio is that of the same round.

    python -m benchmarks.augmentation
"""

from pathlib import Path

import click
import numpy as np
import torch
import torchvision
from torchvision.transforms import v2

from benchmarks.imagenet_scale import cpu_ms
from benchmarks.report import machine, write_json
from training.augmentation import POLICIES, augment, draw_chains

RESULTS = Path(__file__).parent / "results" / "augmentation.json"
TRANSFORMS = {"trivial": v2.TrivialAugmentWide(), "augmix": v2.AugMix(all_ops=False)}


def measure(count: int, batch_size: int, repeats: int) -> dict[str, dict[str, float]]:
    """Images a second of either way, and their ratio: medians over the rounds."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    singly = images.permute(0, 3, 1, 2).contiguous()
    results = {}
    for name, policy in POLICIES.items():

        def whole(policy=policy) -> None:
            for batch in images.split(batch_size):
                augment(batch, draw_chains(policy, len(batch), generator))

        def one_by_one(transform=TRANSFORMS[name]) -> None:
            for image in singly:
                transform(image)

        rounds = [[cpu_ms(one_by_one), cpu_ms(whole)] for _ in range(repeats + 1)]
        times = np.array(rounds[1:])  # the first one warms up
        torchvision_rate, rate = 1e3 * count / np.median(times, axis=0)
        results[name] = {
            "torchvision_images_per_second": round(float(torchvision_rate), 1),
            "images_per_second": round(float(rate), 1),
            "ratio": round(float(np.median(times[:, 0] / times[:, 1])), 2),
        }
    return results


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--images", default=1024, show_default=True, type=click.IntRange(1), help="Of a round.")
@click.option("--batch-size", default=128, show_default=True, type=click.IntRange(1))
@click.option("--repeats", default=8, show_default=True, type=click.IntRange(1), help="Rounds.")
@click.option(
    "--output",
    default=RESULTS,
    show_default="benchmarks/results/augmentation.json",
    type=click.Path(dir_okay=False, path_type=Path),
)
def main(images: int, batch_size: int, repeats: int, output: Path) -> None:
    torch.set_num_threads(1)
    results = measure(images, batch_size, repeats)
    for name, row in results.items():
        click.echo(
            f"{name:8} torchvision {row['torchvision_images_per_second']:8.0f} images/s, "
            f"batched {row['images_per_second']:8.0f} images/s: {row['ratio']:.1f} times"
        )
    setting = {"images": images, "batch_size": batch_size, "repeats": repeats, "threads": 1}
    here = machine(torch=torch.__version__, torchvision=torchvision.__version__)
    write_json(output, machine=here, setting=setting, results=results)


if __name__ == "__main__":
    main()
