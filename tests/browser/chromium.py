"""A headless Chromium to look at pages with, spoken to by its DevTools protocol over a pipe; needs no library."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find():
    """Return the browser's path, None where there is none; CHROMIUM names another."""
    return os.environ.get("CHROMIUM") or next((path for path in map(shutil.which, NAMES) if path), None)


_START = """
import os, sys
theirs, mine, *command = sys.argv[1:]
os.dup2(int(theirs), 3)
os.dup2(int(mine), 4)
os.execv(command[0], command)
"""


def _high(number):
    """Return another number for a file, out of the way of the 3 and 4 that the browser reads and writes."""
    other = fcntl.fcntl(number, fcntl.F_DUPFD, 10)
    os.close(number)
    return other


class Chromium:
    """One browser process; pages are opened one after another, each forgotten with the next."""

    def __init__(self, path):
        self._profile = tempfile.TemporaryDirectory(prefix="nncomp-chromium-", ignore_cleanup_errors=True)
        theirs, self._out = os.pipe()
        self._in, mine = os.pipe()
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--remote-debugging-pipe", "--no-first-run", "--disable-background-networking",
            "--force-color-profile=srgb", f"--user-data-dir={self._profile.name}",
        ]  # fmt: skip
        theirs, mine = (_high(number) for number in (theirs, mine))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs), str(mine), path, *options],
            pass_fds=(theirs, mine),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(mine)
        self._number, self._rest, self._session, self._target = 0, b"", None, None
        self.events = []

    def close(self):
        """End the browser."""
        self._process.terminate()
        self._process.wait(20)
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def send(self, method, *, own=True, **params):
        """Send a command and return its result; what happens meanwhile goes to ``events``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if own and self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            found = self._read()
            if found.get("id") == self._number:
                assert "error" not in found, f"{method}: {found['error']}"
                return found["result"]
            self.events.append(found)

    def open(self, path, *, width=1280, height=900, scale=1, **media):
        """Open a file and wait until it is loaded; ``media`` are CSS features such as ``prefers_color_scheme``."""
        if self._target:
            self.send("Target.closeTarget", own=False, targetId=self._target)
        self._session = None
        self._target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Performance.enable", timeDomain="threadTicks")  # time of the CPU: others use it, too
        self.resize(width, height, scale)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.send("Emulation.setEmulatedMedia", media="", features=features)
        self.go(path.resolve().as_uri())

    def go(self, url):
        """Load an address and wait until it is there."""
        self.events.clear()
        self.send("Page.navigate", url=url)
        end = time.monotonic() + 60
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            assert time.monotonic() < end, "the page does not load"
            self.events.append(self._read())

    def resize(self, width, height, scale=1):
        """Give the window a size."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def evaluate(self, expression):
        """Return the value of a JavaScript expression."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self):
        """Return the whole page as PNG."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(found["data"])

    def pdf(self):
        """Return the page as it is printed."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"])

    @property
    def complaints(self):
        """What the page wrote to the console, and what was thrown."""
        return [
            event
            for event in self.events
            if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        ]

    @property
    def requests(self):
        """Addresses that the page asked for."""
        asked = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in asked]

    def _read(self):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], 60)
            assert ready, "the browser does not answer"
            data = os.read(self._in, 1 << 16)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
