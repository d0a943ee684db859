"""Train one support vector machine and say how well it does on the validation images."""

import argparse
import json
import os
import pathlib

import joblib
import numpy
from sklearn.svm import SVC

parser = argparse.ArgumentParser()
parser.add_argument("--gamma", type=float, required=True)
parser.add_argument("--penalty", type=float, required=True)
arguments = parser.parse_args()

images = numpy.load(os.environ["FLOWRUN_INPUT_IMAGES"])
model = SVC(gamma=arguments.gamma, C=arguments.penalty)
model.fit(images["train"].reshape(-1, 64), images["train_labels"])
accuracy = model.score(images["validation"].reshape(-1, 64), images["validation_labels"])

joblib.dump(model, os.environ["FLOWRUN_OUTPUT_MODEL"])
pathlib.Path("metrics.json").write_text(json.dumps({"validation_accuracy": accuracy}))
print(f"gamma {arguments.gamma}, penalty {arguments.penalty}: {accuracy:.4f}")
