"""Fits y = a*x + b by gradient descent on the first four fifths of the dataset."""

import argparse
import csv
import json
import os

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float, required=True)
rate = parser.parse_args().rate

with open(os.environ["FLOWRUN_INPUT_DATASET"], newline="") as file:
    points = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
points = points[: len(points) * 4 // 5]

a = b = 0.0
for step in range(1, 301):
    errors = [(a * x + b - y, x) for x, y in points]
    a -= rate * 2 * sum(error * x for error, x in errors) / len(points)
    b -= rate * 2 * sum(error for error, _ in errors) / len(points)
    loss = sum(error * error for error, _ in errors) / len(points)
    if step % 100 == 0:
        print(f"step {step}: loss {loss:.3f}", flush=True)

with open(os.environ["FLOWRUN_OUTPUT_MODEL"], "w") as file:
    json.dump({"a": a, "b": b}, file)
with open("metrics.json", "w") as file:
    json.dump({"loss": loss}, file)
