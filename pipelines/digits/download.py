"""Write the digits as one compressed NumPy file, split once for all later stages."""

import json
import os
import pathlib

import numpy
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

params = json.loads(os.environ["FLOWRUN_PARAMS"])
digits = load_digits()
rest, test, rest_labels, test_labels = train_test_split(
    digits.images, digits.target, test_size=params["share"], stratify=digits.target,
    random_state=params["seed"],
)
train, validation, train_labels, validation_labels = train_test_split(
    rest, rest_labels, test_size=0.25, stratify=rest_labels, random_state=params["seed"],
)
numpy.savez_compressed(
    os.environ["FLOWRUN_OUTPUT_IMAGES"],
    train=train, train_labels=train_labels,
    validation=validation, validation_labels=validation_labels,
    test=test, test_labels=test_labels,
)
about = {"classes": len(digits.target_names), "side": int(digits.images.shape[1])}
pathlib.Path("data/about.json").write_text(json.dumps(about))
print(f"{len(train)} images to train, {len(validation)} to choose, {len(test)} to judge")
