"""Makes a dataset: points near the line y = 3x + 2."""

import csv
import json
import os
import random

seed = json.loads(os.environ["FLOWRUN_PARAMS"])["seed"]
random.seed(seed)

with open(os.environ["FLOWRUN_OUTPUT_DATASET"], "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["x", "y"])
    for _ in range(500):
        x = random.uniform(0, 10)
        writer.writerow([x, 3 * x + 2 + random.gauss(0, 1)])

print("wrote 500 points with seed", seed)
