"""Draw docs/common_corruptions.jpg: a photograph under all corruptions, at the scales of CIFAR-10-C and of ImageNet-C.

python -m docs.common_corruptions_picture

The photograph is china.jpg of scikit-learn, by danielbuechele, under CC BY 2.0.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image

from common_corruptions import CORRUPTIONS, corrupt
from common_corruptions.generate.pictures import FONT, INK, LINE, MARGIN, PAPER, corruption_sheet
from common_corruptions.recipes.names import SEVERITIES

PICTURE = Path(__file__).with_name("common_corruptions.jpg")
SIDES = {"cifar": 32, "imagenet": 224}


def sheet(photo: np.ndarray, scale: str) -> Image.Image:
    """One scale's corruptions at its published size, under a line that says which."""
    side = SIDES[scale]
    image = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
    corrupted = {
        name: np.stack([corrupt(image, name, severity, seed=1, scale=scale) for severity in SEVERITIES])
        for name in CORRUPTIONS
    }
    rows = corruption_sheet(corrupted, image, side=96)
    titled = Image.new("RGB", (rows.width, rows.height + LINE), PAPER)
    titled.paste(rows, (0, LINE))
    text = f'scale="{scale}", {side} x {side} pixels'
    ImageDraw.Draw(titled).text((MARGIN, MARGIN + LINE / 2), text, INK, FONT, anchor="lm")
    return titled


if __name__ == "__main__":
    photo = load_sample_image("china.jpg")[60:400, 60:400]
    sheets = [sheet(photo, scale) for scale in SIDES]
    page = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), PAPER)
    top = 0
    for part in sheets:
        page.paste(part, (0, top))
        top += part.height
    page.save(PICTURE, quality=85)
