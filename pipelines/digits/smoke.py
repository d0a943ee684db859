"""Show the new replicas images whose digit is known, before they go live."""

import json
import os
import urllib.request

import numpy

images = numpy.load(os.environ["FLOWRUN_INPUT_IMAGES"])
shown, truth = images["validation"][:100].reshape(-1, 64), images["validation_labels"][:100]
request = urllib.request.Request(
    os.environ["FLOWRUN_SERVICE_SERVE_URL"] + "/predict",
    data=json.dumps({"images": shown.tolist()}).encode(),
    headers={"Content-Type": "application/json"},
)
with urllib.request.urlopen(request, timeout=30) as answer:
    digits = numpy.array(json.load(answer)["digits"])
right = int((digits == truth).sum())
print(f"{right} of {len(truth)} answers are right")
assert right >= 0.8 * len(truth), "the new replicas answer wrongly"
