"""The short training that the trainer's tests share."""

from training.recipe import Recipe

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
RECIPE = Recipe(
    epochs=2,
    batch_size=16,
    lr=0.05,
    momentum=0.9,
    weight_decay=1e-4,
    milestones=(1,),
    flip=True,
    seed=3,
)
