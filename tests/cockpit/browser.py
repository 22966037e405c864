"""A headless Chromium, driven through the DevTools protocol; no driver program needed."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

__all__ = ["Browser", "find_chromium"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
KEYS = {"ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40, "Space": 32}


def find_chromium():
    """Return a browser's path, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def _die_with_this_thread():
    """Have the kernel kill the browser when the thread that started it is gone."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _living(group):
    """Return the processes of a group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


class Browser:
    """One browser with one page; calls wait for their answers."""

    def __init__(
        self, program, *, width=1440, height=900, scheme="light", mobile=False
    ):
        from websockets.sync.client import connect

        self.folder = tempfile.mkdtemp(prefix="cockpit-")
        self.stack = contextlib.ExitStack()
        self.process = subprocess.Popen(
            [
                program,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--remote-debugging-port=0",
                f"--user-data-dir={self.folder}",
                "about:blank",
            ],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # A browser is a family of processes: it is ended as a group, and goes with
            # this process even where that is killed.
            start_new_session=True,
            preexec_fn=_die_with_this_thread,  # noqa: PLW1509
        )
        self.number = 0
        self.problems = []
        try:
            self._enter(connect)
            self.look_like(width, height, scheme=scheme, mobile=mobile)
        except BaseException:
            self.close()
            raise

    def _enter(self, connect):
        port = self._wait_port()
        pages = json.loads(
            urllib.request.urlopen(f"http://127.0.0.1:{port}/json").read()
        )
        url = next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page")
        link = connect(url, max_size=None, compression=None)
        self.socket = self.stack.enter_context(link)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def look_like(self, width, height, *, scheme="light", mobile=False):
        """Take another size and colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if mobile else 1,
            mobile=mobile,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def call(self, method, **params):
        """Call a DevTools method and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv(timeout=30))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def open(self, url):
        """Go to a page and wait until its parts are there."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def js(self, expression):
        """Return the value of an expression, promises awaited."""
        found = self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression, seconds=15.0):
        """Wait until an expression is true."""
        until = time.monotonic() + seconds
        while not self.js(f"Boolean({expression})"):
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(0.05)

    def text(self, selector):
        """Return what a person reads there."""
        return self.js(f"document.querySelector({selector!r}).innerText")

    def click(self, selector):
        """Press and release the mouse in the middle of what is there."""
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, selector)

    def mouse(self, kind, selector, dx=0.0, dy=0.0):
        """Do one thing with the mouse, offset from the middle of what is there."""
        x, y = self.js(
            f"(() => {{ const n = document.querySelector({selector!r});"
            "n.scrollIntoView({block: 'center'});"
            "const b = n.getBoundingClientRect();"
            "return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        self.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x + dx,
            y=y + dy,
            button="left",
            buttons=0 if kind == "mouseReleased" else 1,
            clickCount=1,
        )

    def key(self, code, *, down):
        """Hold a key, or let it go."""
        self.call(
            "Input.dispatchKeyEvent",
            type="rawKeyDown" if down else "keyUp",
            code=code,
            key=" " if code == "Space" else code,
            windowsVirtualKeyCode=KEYS[code],
        )

    def picture(self, path, *, whole=False):
        """Write a PNG of what a person sees."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        """End the browser and every process of it; may be called twice."""
        self.stack.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        until = time.monotonic() + 10
        while left := _living(self.process.pid):
            assert time.monotonic() < until, f"the browser left {left} behind"
            time.sleep(0.02)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _note(self, message):
        """Keep what a page should never say: exceptions, refused loads, CSP."""
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(params["exceptionDetails"])
        if method == "Log.entryAdded" and params["entry"]["source"] == "security":
            self.problems.append(params["entry"])
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("http://127.0.0.1", "about:", "blob:")):
                self.problems.append(url)

    def _wait_port(self):
        record = Path(self.folder) / "DevToolsActivePort"
        until = time.monotonic() + 30
        while not (record.exists() and record.read_text().count("\n")):
            assert time.monotonic() < until, "the browser did not start"
            time.sleep(0.05)
        return int(record.read_text().splitlines()[0])
