#!/usr/bin/env python3
"""Speaks as much of llama.cpp's server protocol as bench/llama_arm needs, or fails on demand:

    fake_llama_server.py --host H --port P -m MODEL ... [--fake WORD] [--pid FILE]

WORD is ok, dies (before it is healthy), sick (never healthy), hangs (never answers), quits (while it
answers), garbage (no JSON), bare (JSON without timings), silent (no tokens), refuses (status 500) or
stubborn (ok, but deaf to being asked to end). FILE gets the process id.
"""

import http.server
import json
import os
import signal
import sys
import time


def option(name, otherwise):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else otherwise


MODE = option("--fake", "ok")
DRAFTING = "--spec-type" in sys.argv


def answer_to(request):
    n = request["n_predict"]
    tokens = [len(request["prompt"]) // 4 + i for i in range(n)]
    timings = {"prompt_n": 5, "prompt_ms": 50.0, "prompt_per_second": 100.0, "predicted_n": n,
               "predicted_ms": 10.0 * (n - 1), "predicted_per_second": 1e3 * n / (10.0 * (n - 1) or 1)}
    timings["arguments"] = sys.argv[1:]
    if DRAFTING:
        tokens[-1] += 1
        timings |= {"draft_n": 6, "draft_n_accepted": 4, "predicted_ms": 20.0 * (n - 1)}
    answer = {"content": "its text", "tokens": tokens, "timings": timings}
    if MODE == "bare":
        del answer["timings"]
    if MODE == "silent":
        answer["tokens"] = []
    return json.dumps(answer)


class Handler(http.server.BaseHTTPRequestHandler):
    unhealthy = 2  # answers before the model is loaded

    def log_message(self, *_):
        pass

    def send(self, status, text):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        Handler.unhealthy -= 1
        well = Handler.unhealthy < 0 and MODE != "sick" and self.path == "/health"
        self.send(200 if well else 503, "{}")

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wanted = {"temperature": 0, "cache_prompt": False, "return_tokens": True}
        if self.path != "/completion" or any(request.get(k) != v for k, v in wanted.items()):
            self.send(400, f"not what was expected: {self.path} {request}")
        elif MODE == "hangs":
            time.sleep(600)
        elif MODE == "quits":
            print("out of ideas", flush=True)
            os._exit(3)
        elif MODE == "refuses":
            self.send(500, "no such slot")
        else:
            self.send(200, "{not JSON" if MODE == "garbage" else answer_to(request))


def main():
    pid = option("--pid", None)
    if pid:
        with open(pid, "w", encoding="utf-8") as file:
            file.write(str(os.getpid()))
    if MODE == "dies":
        print("cannot load the model", flush=True)
        sys.exit(4)
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    address = (option("--host", ""), int(option("--port", "0")))
    assert address[0] == "127.0.0.1"
    http.server.HTTPServer(address, Handler).serve_forever()


main()
