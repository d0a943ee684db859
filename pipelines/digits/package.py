"""Put the model, its picture and a card into one folder that can be shipped."""

import json
import os
import pathlib
import shutil

bundle = pathlib.Path(os.environ["FLOWRUN_OUTPUT_BUNDLE"])
bundle.mkdir(parents=True, exist_ok=True)
shutil.copyfile(os.environ["FLOWRUN_INPUT_MODEL"], bundle / "model.joblib")
shutil.copyfile(os.environ["FLOWRUN_INPUT_PICTURE"], bundle / "confusion.png")
card = {
    "name": "digits",
    "accuracy": float(os.environ["ACCURACY"]),
    "classes": int(os.environ["CLASSES"]),
    "commit": os.environ["FLOWRUN_COMMIT"],
}
(bundle / "card.json").write_text(json.dumps(card, indent=2))
print(f"packed {sorted(path.name for path in bundle.iterdir())}")
