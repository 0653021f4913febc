"""Plain PyTorch: a warm-up with cross entropy, then the rate goes down to its value; 426 rows, 30 % flipped.

Needs scikit-learn.
"""

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn

from nls import GLSLoss, corrupt, r_opt, symmetric

EPOCHS, WARM_UP, RAMP, LR, NOISE = 60, 3, 7, 0.01, 0.3
RATE = 2 * r_opt(NOISE, 2)  # a strongly negative one; on your labels let nls.choose_rate find it

X, y = load_breast_cancer(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
noisy = torch.from_numpy(corrupt(y, symmetric(2, NOISE), seed=0))
mean, std = X.mean(axis=0), X.std(axis=0)
X, X_test = (torch.from_numpy((part - mean) / std).float() for part in (X, X_test))
y_test = torch.from_numpy(y_test)


def rate_at(epoch: int) -> float:
    """0 during the warm-up, in which the network finds the classes; a negative rate makes it only surer of them."""
    return RATE * min(1.0, max(0.0, (epoch + 1 - WARM_UP) / RAMP))


def train(rate_at) -> float:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 2))
    criterion = GLSLoss(0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    for epoch in range(EPOCHS):
        criterion.smooth_rate = rate_at(epoch)
        for group in optimizer.param_groups:  # the loss at rate r is 1 - r times as long: keep the step's length
            group["lr"] = LR / (1 - rate_at(epoch))
        for rows in torch.randperm(len(X)).split(32):
            optimizer.zero_grad()
            criterion(model(X[rows]), noisy[rows]).backward()
            optimizer.step()
    return (model(X_test).argmax(1) == y_test).float().mean().item()


print(f"clean accuracy with cross entropy: {train(lambda epoch: 0.0):.3f}")
print(f"clean accuracy with GLS at {RATE:.2f}: {train(rate_at):.3f}")
