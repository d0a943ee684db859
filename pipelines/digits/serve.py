"""Answer with the digits on images: POST /predict {"images": [[64 numbers from 0 to 16]]}."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import joblib

model = joblib.load(os.environ["FLOWRUN_INPUT_MODEL"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        if self.path == "/readyz":
            self.answer(200, {"gamma": model.gamma, "penalty": model.C})
        else:
            self.answer(404, {"error": f"there is no {self.path}"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/predict":
            return self.answer(404, {"error": f"there is no {self.path}"})
        try:
            images = json.loads(body)["images"]
            self.answer(200, {"digits": model.predict(images).tolist()})
        except (ValueError, KeyError, TypeError) as error:
            self.answer(400, {"error": f'write {{"images": [[64 numbers]]}}: {error}'})

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
print(f"answering with gamma {model.gamma}, penalty {model.C}", flush=True)
server.serve_forever()
