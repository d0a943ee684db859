"""Train a random forest on the prepared flowers."""

import argparse
import csv
import json
import os
import pathlib

import joblib
from sklearn.ensemble import RandomForestClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--trees", type=int, required=True)
arguments = parser.parse_args()
params = json.loads(os.environ["FLOWRUN_PARAMS"])

with open(pathlib.Path(os.environ["FLOWRUN_INPUT_DATASET"]) / "train.csv", newline="") as file:
    rows = list(csv.reader(file))[1:]
features = [[float(value) for value in row[:-1]] for row in rows]
species = [row[-1] for row in rows]

model = RandomForestClassifier(n_estimators=arguments.trees, random_state=params["seed"])
model.fit(features, species)

folder = pathlib.Path(os.environ["FLOWRUN_OUTPUT_MODEL"])
folder.mkdir(parents=True, exist_ok=True)
joblib.dump(model, folder / "model.joblib")
print(f"trained {arguments.trees} trees on {len(rows)} flowers")
