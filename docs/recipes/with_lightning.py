"""Lightning: GLSLoss is a module of the LightningModule, and a hook assigns its rate anew each epoch.

Needs lightning, scikit-learn.
"""

import lightning
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nls import GLSLoss, corrupt, symmetric


class Classifier(lightning.LightningModule):
    """A small network that is trained with cross entropy for `warm_up` epochs, then at `rate`."""

    def __init__(self, rate: float, warm_up: int = 5) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2))
        self.criterion = GLSLoss(0.0)

    def on_train_epoch_start(self) -> None:
        self.criterion.smooth_rate = self.hparams.rate if self.current_epoch >= self.hparams.warm_up else 0.0

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        return self.criterion(self.model(x), y)

    def test_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        x, y = batch
        self.log("clean accuracy", (self.model(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


# Odd or even, two classes: on all ten digits a strongly negative rate costs this network more accuracy.
X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split((X / 16).astype("float32"), y % 2, stratify=y, random_state=0)
noisy = corrupt(y, symmetric(2, 0.3), seed=0)
train = TensorDataset(torch.from_numpy(X), torch.from_numpy(noisy))
test = TensorDataset(torch.from_numpy(X_test), torch.from_numpy(y_test))

quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
for rate in (0.0, -3.0):  # 0 is cross entropy; which is better on your data, nls.choose_rate tells
    lightning.seed_everything(0, verbose=False)
    trainer = lightning.Trainer(max_epochs=15, accelerator="cpu", **quiet)
    model = Classifier(rate)
    trainer.fit(model, DataLoader(train, batch_size=128, shuffle=True))
    (result,) = trainer.test(model, DataLoader(test, batch_size=len(test)), verbose=False)
    print(f"clean accuracy at rate {rate:g}: {result['clean accuracy']:.3f}")
