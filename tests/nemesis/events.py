"""What was done when: for the checker (lines of a history, src/checker/history.h) and for the page
(events.jsonl, README.md). All times are CLOCK_MONOTONIC, as the load's."""

import json
import threading
import time


class Events:
    """Both files; from any thread."""

    def __init__(self, history_path, page_path):
        self.history = open(history_path, "w", encoding="utf-8")
        self.page = open(page_path, "w", encoding="utf-8")
        self.lock = threading.Lock()
        self.write(self.history, {"history": 1, "source": "nemesis"})

    def write(self, file, value):
        with self.lock:
            if not file.closed:
                file.write(json.dumps(value) + "\n")
                file.flush()

    def mark(self, event, text=None):
        """An event that rules depend on: healed, settled; other."""
        line = {"op": "event", "at": int(time.monotonic() * 1e6), "event": event}
        if text:
            line["text"] = text[:4000]
        self.write(self.history, line)
        if event != "other":
            self.page_event(kind="note", text=text or event)

    def note(self, what, text):
        self.mark("other", f"{what}: {text}")
        self.page_event(kind="note", text=f"{what}: {text}")

    def page_event(self, **fields):
        self.write(self.page, {"t": time.monotonic(), **fields})

    def fault(self, begin, kind, text, **fields):
        """A fault that is over."""
        self.write(self.page, {"t": begin, "end": time.monotonic(), "kind": kind, "text": text,
                               **{k: v for k, v in fields.items() if v is not None}})

    def close(self):
        with self.lock:
            self.history.close()
            self.page.close()
