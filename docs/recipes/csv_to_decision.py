"""From a csv with a noisy label column to a decision, in five cells.

In a clone: pip install '.[choose]'. Needs skorch, scikit-learn, pandas, matplotlib.
"""

# %% 1. The csv. This one is made here: 30 % of the diagnoses in a clinical data set are flipped.
import tempfile
from pathlib import Path

import pandas as pd
from sklearn.datasets import load_breast_cancer

from nls import GLSLoss, choose_rate, corrupt, symmetric

frame = load_breast_cancer(as_frame=True).frame.rename(columns={"target": "label"})
frame["label"] = corrupt(frame["label"], symmetric(2, 0.3), seed=0)
CSV = Path(tempfile.mkdtemp()) / "labels.csv"
frame.to_csv(CSV, index=False)

# %% 2. Inputs in float32, labels as numbers 0 ... K-1.
table = pd.read_csv(CSV)
labels = table.pop("label").astype("category").cat.codes.to_numpy().astype("int64")
X = table.to_numpy("float32")

# %% 3. The network that you would train anyway, with its loss and a rate that can be set.
import torch  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from skorch import NeuralNetClassifier  # noqa: E402

torch.set_num_threads(1)  # on more, networks this small mostly wait


def network() -> torch.nn.Module:  # a function or a class, so that every fold starts from weights of its own
    return torch.nn.Sequential(torch.nn.Linear(X.shape[1], 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))


options = {"optimizer": torch.optim.Adam, "lr": 0.03, "max_epochs": 40, "batch_size": -1, "verbose": 0}
options |= {"train_split": None, "predict_nonlinearity": torch.nn.Softmax(-1)}
net = NeuralNetClassifier(network, criterion=GLSLoss, criterion__smooth_rate=0.0, **options)

# %% 4. The decision.
choice = choose_rate(
    make_pipeline(StandardScaler(), net),
    X,
    labels,
    [0.0, -1.0, -4.0],
    param="neuralnetclassifier__criterion__smooth_rate",
)
print(choice)
print(choice.table.round(3).to_string())
choice.plot()

# %% 5. The final model, on all rows at the chosen rate.
final = make_pipeline(StandardScaler(), net).set_params(neuralnetclassifier__criterion__smooth_rate=choice.rate)
final.fit(X, labels)
print(f"clean accuracy: {final.score(X, load_breast_cancer().target):.3f}, on the rows that it was trained on")
