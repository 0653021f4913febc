"""skorch and GridSearchCV: the rate is a parameter of the estimator like any other, searched with the epochs.

Needs skorch, scikit-learn.
"""

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from nls import GLSLoss, corrupt, symmetric

X, y = load_breast_cancer(return_X_y=True)
X, X_test, y, y_test = train_test_split(X.astype("float32"), y, stratify=y, random_state=0)
noisy = corrupt(y, symmetric(2, 0.3), seed=0)

torch.manual_seed(0)
net = NeuralNetClassifier(
    lambda: nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2)),
    criterion=GLSLoss,
    criterion__smooth_rate=0.0,
    optimizer=torch.optim.Adam,
    lr=0.01,
    batch_size=-1,  # all rows at once
    train_split=None,  # all labels train; the search below keeps its own
    predict_nonlinearity=nn.Softmax(-1),  # else predict_proba returns logits
    verbose=0,
)
grid = {
    "neuralnetclassifier__criterion__smooth_rate": [0.0, -1.0, -4.0],
    "neuralnetclassifier__max_epochs": [20, 100],
}
folds = StratifiedKFold(5, shuffle=True, random_state=0)
search = GridSearchCV(make_pipeline(StandardScaler(), net), grid, cv=folds).fit(X, noisy)

print("best on noisy labels out of fold:", search.best_params_)
print(f"accuracy on noisy labels: {search.best_score_:.3f} (no model expects more than 0.7 at this noise rate)")
print(f"clean accuracy: {search.score(X_test, y_test):.3f}")
