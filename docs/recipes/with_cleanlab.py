"""cleanlab's CleanLearning around the estimator that choose_rate takes: drop labels that look wrong, then train.

Needs cleanlab, skorch, scikit-learn.
"""

import numpy as np
import torch
from cleanlab.classification import CleanLearning
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from nls import GLSLoss, corrupt, symmetric

X, y = load_breast_cancer(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
scaler = StandardScaler().fit(X)
X, X_test = (scaler.transform(part).astype(np.float32) for part in (X, X_test))
noisy = corrupt(y, symmetric(2, 0.3), seed=0)


def network(rate: float) -> NeuralNetClassifier:
    torch.manual_seed(0)
    return NeuralNetClassifier(
        lambda: nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2)),
        criterion=GLSLoss,
        criterion__smooth_rate=rate,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=100,
        batch_size=-1,
        train_split=None,
        predict_nonlinearity=nn.Softmax(-1),
        verbose=0,
    )


# At strongly negative rates most probabilities saturate at 0 or 1: they meet cleanlab's thresholds with ties.
for rate in (0.0, -4.0):
    alone = network(rate).fit(X, noisy)
    learning = CleanLearning(network(rate), seed=0, cv_n_folds=5).fit(X, noisy)
    issues = learning.get_label_issues()["is_label_issue"].to_numpy()
    precision = (noisy != y)[issues].mean()
    print(f"rate {rate:g}: clean accuracy {alone.score(X_test, y_test):.3f} alone")
    print(f"rate {rate:g}: {issues.sum()} labels dropped, {precision:.0%} of them wrong")
    print(f"rate {rate:g}: clean accuracy {learning.score(X_test, y_test):.3f} with CleanLearning")
