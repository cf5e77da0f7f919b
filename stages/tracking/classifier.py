"""A trained net as MLflow loads it: uint8 images in, classes out.

MLflow runs this file to build the model; of this repository, only `logged_model.PACKAGES` are available then.
"""

from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from common_corruptions.evaluation import memory_format, predict
from nets import create_net
from nets.checkpoint import read_checkpoint


class Classifier(PythonModel):
    """Takes images uint8 (N, H, W, C) and returns their classes, int64 (N,)."""

    def load_context(self, context) -> None:
        trained = read_checkpoint(Path(context.artifacts["net"]))  # as `stages.files.trained` wrote it
        (weights,) = trained["weights"].values()
        net = create_net(trained["arch"], **trained["options"])
        net.load_state_dict(weights)
        self.net = net.to(memory_format=memory_format("cpu")).eval()
        self.mean, self.std = trained["mean"], trained["std"]

    def predict(self, context, model_input: np.ndarray, params: dict | None = None) -> np.ndarray:
        return predict(self.net, model_input, mean=self.mean, std=self.std).argmax(1)


set_model(Classifier())
