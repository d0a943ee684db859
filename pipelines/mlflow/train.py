"""Train a small classifier and log parameters, metrics and the model to the tracking server."""

import argparse
import json
import os
import pathlib

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--strength", type=float, required=True)
arguments = parser.parse_args()

features, species = load_iris(return_X_y=True, as_frame=True)
train, test, train_species, test_species = train_test_split(
    features, species, test_size=0.3, stratify=species, random_state=7
)

mlflow.set_experiment("iris")
with mlflow.start_run() as run:
    model = LogisticRegression(C=arguments.strength, max_iter=1000)
    model.fit(train, train_species)
    accuracy = model.score(test, test_species)
    mlflow.log_param("strength", arguments.strength)
    mlflow.log_param("commit", os.environ["FLOWRUN_COMMIT"])
    mlflow.log_metric("accuracy", accuracy)
    mlflow.sklearn.log_model(model, name="model", input_example=train.head(3))

pathlib.Path(os.environ["FLOWRUN_OUTPUT_LOGGED"]).write_text(run.info.run_id)
pathlib.Path("metrics.json").write_text(json.dumps({"accuracy": accuracy}))
print(f"run {run.info.run_id}: accuracy {accuracy:.3f}")
