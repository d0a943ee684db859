"""Judge the model on flowers that it has not seen."""

import csv
import json
import os
import pathlib

import joblib
from sklearn.metrics import accuracy_score, classification_report

with open(pathlib.Path(os.environ["FLOWRUN_INPUT_DATASET"]) / "test.csv", newline="") as file:
    rows = list(csv.reader(file))[1:]
features = [[float(value) for value in row[:-1]] for row in rows]
species = [row[-1] for row in rows]

model = joblib.load(pathlib.Path(os.environ["FLOWRUN_INPUT_MODEL"]) / "model.joblib")
guesses = model.predict(features)
accuracy = accuracy_score(species, guesses)

report = classification_report(species, guesses, output_dict=True)
pathlib.Path(os.environ["FLOWRUN_OUTPUT_REPORT"]).write_text(json.dumps(report, indent=2))
pathlib.Path("metrics.json").write_text(json.dumps({"accuracy": accuracy, "flowers": len(rows)}))
print(f"accuracy {accuracy:.3f} on {len(rows)} flowers")
