import { expect, test } from "@playwright/test";
import type { Meta, Run } from "../src/contract";
import { fakeTape, pageWith } from "./fake";
import { address, ask, frame, open } from "./helps";

test("9. a long prompt: the first view is under 1 MB, and heads switch", async ({ page }) => {
  const meta = await ask<Meta>("meta");
  const words = "When Mary and John went to the store , ";
  let prompt = words.repeat(200);
  let run: Run | null = null;
  for (let count = Math.min(1024, meta.limits.tokens); !run && count > 8; count = Math.floor(count * 0.8)) {
    prompt = words.repeat(Math.ceil(count / 9)).split(" ").slice(0, count).join(" ");
    run = await ask<Run>("runs", { prompt }).catch(() => null);
  }
  expect(run).not.toBeNull();
  let bytes = 0;
  page.on("response", (response) => void response.body().then((body) => (bytes += body.length), () => 0));
  await open(page, `?run=${run?.id}`);
  await expect(frame(page, "dla")).toBeVisible();
  await page.waitForLoadState("networkidle");
  console.log(`first view of ${run?.clean.tokens.length} tokens: ${bytes} bytes`);
  expect(bytes).toBeLessThan(1_000_000);
  await page.keyboard.press("2");
  await page.keyboard.press(".");
  await expect(frame(page, "attention").getByRole("application")).toBeVisible();
});

test("1,024 tokens x 12 heads: drawn, zoomed and switched without a stall", async ({ page }) => {
  test.setTimeout(180_000);
  const tape = fakeTape({ layers: 1, heads: 12, tokens: 1024 });
  const html = pageWith(tape);
  await page.route(/\/long\?/, (route) => route.fulfill({ body: html, contentType: "text/html; charset=utf-8" }));
  await page.goto(`${address().origin}/long?tab=attention&at=a0.h0`);
  await expect(frame(page, "attention").getByRole("application")).toBeVisible();
  const took = await page.evaluate(async () => {
    const drawn = () => document.querySelector('[data-frame="attention"] h2')?.textContent ?? "";
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const times = [];
    for (let i = 0; i < 6; i++) {
      const [start, before] = [performance.now(), drawn()];
      document.dispatchEvent(new KeyboardEvent("keydown", { key: ".", bubbles: true }));
      while (drawn() === before) await frame();
      await frame();
      times.push(performance.now() - start);
    }
    return times.sort((a, b) => a - b)[3] as number;
  });
  console.log(`head switch at 1,024 tokens, cached: ${took.toFixed(0)} ms`);
  const map = frame(page, "attention").getByRole("application");
  await map.focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("+");
  await page.keyboard.press("+");
  await expect(frame(page, "attention").getByRole("button", { name: "Whole map (0)" })).toBeVisible();
});
