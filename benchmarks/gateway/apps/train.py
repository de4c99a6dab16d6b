"""Train the one model that every model server serves: iris. Argument: the file to write."""

import sys

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

rows, labels = load_iris(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=1000).fit(rows, labels), sys.argv[1])
