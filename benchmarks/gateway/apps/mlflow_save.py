"""Write the model in MLflow's own form. Arguments: the model's file, the folder to write."""

import sys

import joblib
import mlflow.sklearn

mlflow.sklearn.save_model(joblib.load(sys.argv[1]), sys.argv[2], pip_requirements=["scikit-learn"])
