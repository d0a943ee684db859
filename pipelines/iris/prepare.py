"""Write the iris measurements as two CSV files, one to train on and one to judge with."""

import csv
import json
import os
import pathlib

from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

params = json.loads(os.environ["FLOWRUN_PARAMS"])
folder = pathlib.Path(os.environ["FLOWRUN_OUTPUT_DATASET"])
folder.mkdir(parents=True, exist_ok=True)

iris = load_iris()
parts = train_test_split(
    iris.data, iris.target, test_size=0.3, stratify=iris.target, random_state=params["seed"]
)
for name, rows, kinds in [("train", parts[0], parts[2]), ("test", parts[1], parts[3])]:
    with open(folder / f"{name}.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*iris.feature_names, "species"])
        for row, kind in zip(rows, kinds):
            table.writerow([*row, iris.target_names[kind]])
    print(f"{name}: {len(rows)} flowers")
