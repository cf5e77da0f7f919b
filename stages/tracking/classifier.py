"""A trained net as MLflow loads it: uint8 images in, classes out. MLflow runs this file to build the model."""

from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from common_corruptions.evaluation import predict
from stages.files import models


class Classifier(PythonModel):
    """Takes images uint8 (N, H, W, C) and returns their classes, int64 (N,)."""

    def load_context(self, context) -> None:
        trained = models.load(Path(context.artifacts["net"]))
        (seed,) = trained.weights
        self.net, self.mean, self.std = trained.net(seed), trained.mean, trained.std

    def predict(self, context, model_input: np.ndarray, params: dict | None = None) -> np.ndarray:
        return predict(self.net, model_input, mean=self.mean, std=self.std).argmax(1)


set_model(Classifier())
