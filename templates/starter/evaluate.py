"""Judges the model on the last fifth of the dataset, which it has not seen."""

import csv
import json
import os

with open(os.environ["FLOWRUN_INPUT_MODEL"]) as file:
    model = json.load(file)
with open(os.environ["FLOWRUN_INPUT_DATASET"], newline="") as file:
    points = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
points = points[len(points) * 4 // 5 :]

errors = [abs(model["a"] * x + model["b"] - y) for x, y in points]
error = sum(errors) / len(errors)

with open("metrics.json", "w") as file:
    json.dump({"error": error}, file)
print(f"y = {model['a']:.2f}x + {model['b']:.2f}, mean error {error:.3f}")
