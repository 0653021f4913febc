"""From a csv with a noisy label column to a decision, in five cells.

In a clone: pip install '.[choose]'. Needs skorch, scikit-learn, pandas, matplotlib.
"""

# %% 1. The csv. This one is made here: 30 % of the diagnoses in a clinical data set are flipped.
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

from nls import GLSLoss, choose_rate, corrupt, symmetric

frame = load_breast_cancer(as_frame=True).frame
truth, diagnoses = frame.pop("target"), np.array(["malignant", "benign"])
frame.loc[::20, "mean texture"] = np.nan  # gaps
frame["clinic"] = np.where(frame.index % 3, "north", "south")  # text
frame["label"] = diagnoses[corrupt(truth, symmetric(2, 0.3), seed=0)]
CSV = Path(tempfile.mkdtemp()) / "labels.csv"
frame.to_csv(CSV, index_label="patient")

# %% 2. Labels as numbers 0 ... K-1, inputs in float32: a column for each value of a text, identifiers left out.
table = pd.read_csv(CSV).dropna(subset="label").drop(columns="patient")
names, labels = np.unique(table.pop("label"), return_inverse=True)
X = pd.get_dummies(table).to_numpy("float32")

# %% 3. The network that you would train anyway, with its loss and a rate that can be set.
import torch  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from skorch import NeuralNetClassifier  # noqa: E402

torch.set_num_threads(1)  # on more, networks this small mostly wait


def network() -> torch.nn.Module:  # a function or a class, so that every fold starts from weights of its own
    return torch.nn.Sequential(torch.nn.Linear(X.shape[1], 32), torch.nn.ReLU(), torch.nn.Linear(32, len(names)))


options = {"optimizer": torch.optim.Adam, "lr": 0.03, "max_epochs": 40, "batch_size": -1, "verbose": 0}
options |= {"train_split": None, "predict_nonlinearity": torch.nn.Softmax(-1)}
net = NeuralNetClassifier(network, criterion=GLSLoss, criterion__smooth_rate=0.0, **options)
model = make_pipeline(SimpleImputer(), StandardScaler(), net)

# %% 4. The decision.
rate = "neuralnetclassifier__criterion__smooth_rate"
choice = choose_rate(model, X, labels, [0.0, -1.0, -4.0], param=rate)
print(choice)
print(choice.table.round(3).to_string())
choice.plot()

# %% 5. The final model, on all rows at the chosen rate. It predicts numbers, which `names` turns back.
predicted = names[model.set_params(**{rate: choice.rate}).fit(X, labels).predict(X)]
print(f"clean accuracy: {np.mean(predicted == diagnoses[truth]):.3f}, on the rows that it was trained on")
