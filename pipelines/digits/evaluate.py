"""Judge the chosen model, and the live one when there is one, on images that no stage has seen; draw a confusion matrix."""

import json
import os
import pathlib

import joblib
import numpy
from PIL import Image, ImageDraw
from sklearn.metrics import accuracy_score, confusion_matrix

CELL = 36

images = numpy.load(os.environ["FLOWRUN_INPUT_IMAGES"])
model = joblib.load(os.environ["FLOWRUN_INPUT_MODEL"])
guesses = model.predict(images["test"].reshape(-1, 64))
truth = images["test_labels"]
accuracy = accuracy_score(truth, guesses)
counts = confusion_matrix(truth, guesses)

side = (len(counts) + 1) * CELL
picture = Image.new("RGB", (side, side), "white")
pen = ImageDraw.Draw(picture)
for digit in range(len(counts)):
    place = (digit + 1) * CELL + CELL // 2
    pen.text((place, CELL // 2), str(digit), fill="black", anchor="mm")
    pen.text((CELL // 2, place), str(digit), fill="black", anchor="mm")
for row, line in enumerate(counts):
    for column, count in enumerate(line):
        share = count / max(1, line.sum())
        left, top = (column + 1) * CELL, (row + 1) * CELL
        shade = int(255 * (1 - share))
        pen.rectangle([left, top, left + CELL - 2, top + CELL - 2], fill=(shade, shade, 255))
        colour = "white" if share > 0.5 else "black"
        pen.text((left + CELL // 2, top + CELL // 2), str(count), fill=colour, anchor="mm")
picture.save(os.environ["FLOWRUN_OUTPUT_PICTURE"])

wrong = int((guesses != truth).sum())
metrics = {"accuracy": accuracy, "wrong": wrong}
if "FLOWRUN_INPUT_CURRENT" in os.environ:
    current = joblib.load(os.environ["FLOWRUN_INPUT_CURRENT"])
    metrics["live_accuracy"] = current.score(images["test"].reshape(-1, 64), truth)
    print(f"the live model's accuracy {metrics['live_accuracy']:.4f}")
pathlib.Path("metrics.json").write_text(json.dumps(metrics))
print(f"accuracy {accuracy:.4f}: {wrong} of {len(truth)} images wrong")
