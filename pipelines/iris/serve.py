"""Answer with the species of flowers: POST /predict {"flowers": [[5.1, 3.5, 1.4, 0.2]]}."""

import json
import os
import pathlib
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import joblib

model = joblib.load(pathlib.Path(os.environ["FLOWRUN_INPUT_MODEL"]) / "model.joblib")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        if self.path == "/readyz":
            self.answer(200, {"trees": len(model.estimators_)})
        else:
            self.answer(404, {"error": f"there is no {self.path}"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/predict":
            return self.answer(404, {"error": f"there is no {self.path}"})
        try:
            flowers = json.loads(body)["flowers"]
            self.answer(200, {"species": model.predict(flowers).tolist()})
        except (ValueError, KeyError, TypeError) as error:
            self.answer(400, {"error": f'write {{"flowers": [[5.1, 3.5, 1.4, 0.2]]}}: {error}'})

    def answer(self, status, content):
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
address = os.environ["FLOWRUN_LISTEN"], int(os.environ["PORT"])
server = ThreadingHTTPServer(address, Handler)
print(f"answering with {len(model.estimators_)} trees", flush=True)
server.serve_forever()
