import { expect, test } from "@playwright/test";
import type { Attribution, CircuitView, Lens, Row, Sweep } from "../src/contract";
import { square } from "../src/read/packed";
import { ask, askTensor, exact, frame, open, runOf, saveAs, saved } from "./helps";

test("2. attention: maps, lines and the exact row hold the service's numbers", async ({ page }) => {
  await open(page, "?tab=attention&at=a1.h1");
  const id = await runOf(page);
  await expect(page.getByRole("note").filter({ hasText: "Attention is not attribution." })).toBeVisible();
  const map = await saved<{ rows: number[][]; quantised: boolean }>(page, () => saveAs(page, "attention", "JSON data"));
  const n = map.rows.length;
  const packed = await askTensor(`attention/layer?layer=1&run=${id}`);
  const expected = square(packed.data as Uint8Array, 1, n);
  map.rows.forEach((row, q) => row.forEach((value, k) => expect(value).toBeCloseTo(expected[q * n + k] as number, 6)));
  const row = await saved<Row>(page, () => saveAs(page, "row", "JSON data"));
  const exactRow = await ask<Row>(`attention/row?head=1&layer=1&query=${n - 1}&run=${id}`);
  expect(row).toEqual(exactRow);
  exactRow.attention.forEach((value, k) => expect(Math.abs(value - (map.rows[n - 1]?.[k] as number))).toBeLessThan(0.004));
  await frame(page, "attention").getByRole("application").focus();
  for (const key of ["ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"]) await page.keyboard.press(key);
  await page.keyboard.press("Enter");
  expect(new URL(page.url()).searchParams.get("q")).not.toBeNull();
  await page.keyboard.press("Escape");
  expect(new URL(page.url()).searchParams.get("q")).toBeNull();
});

test("3. clean and corrupted: a sweep streams in, and its map is the service's", async ({ page }) => {
  await open(page, "?tab=patch");
  const id = await runOf(page);
  await page.getByLabel("site").selectOption("mlp_out");
  await page.getByRole("button", { name: "Run the sweep" }).click();
  await expect(frame(page, "patch").getByRole("application")).toBeVisible();
  await expect(page.getByLabel("Jobs")).toContainText("done");
  const sweep = await ask<Sweep>(`patch?run=${id}&site=mlp_out`);
  expect(await saved<Sweep>(page, () => saveAs(page, "patch", "JSON data"))).toEqual(sweep);
  await page.keyboard.press("t");
  const cells = frame(page, "patch").locator("tbody tr");
  await expect(cells).toHaveCount(Math.min(400, sweep.values.flat().length));
  expect(Number(await cells.nth(1).locator("td").last().getAttribute("title"))).toBe(sweep.values[0]?.[1]);
});

test("5. when does it know: the lens, its ranks and its difference after an edit", async ({ page }) => {
  await open(page, "?tab=lens&at=a0.h0");
  const lens = await ask<Lens>(`lens?run=${await runOf(page)}`);
  expect(await saved<Lens>(page, () => saveAs(page, "lens", "JSON data"))).toEqual(lens);
  const rows = frame(page, "ranks").locator("tbody tr");
  await expect(rows).toHaveCount(lens.stages.length);
  await expect(rows.last().locator("td").nth(1)).toHaveText(String(lens.correct_rank.at(-1)));
  await page.keyboard.press("a");
  await expect(page.getByTestId("change")).toBeVisible();
  await page.keyboard.press("c");
  await page.keyboard.press("c");
  await expect(frame(page, "lens").getByRole("heading")).toContainText("run A − run B");
});

test("attribution stands beside occlusion, with their rank correlation", async ({ page }) => {
  await open(page, "?tab=attribution");
  const found = await ask<Attribution>(`attribution?method=decompx&run=${await runOf(page)}`);
  await expect(page.getByTestId("correlation")).toBeVisible();
  expect(await exact(page, "correlation")).toBeCloseTo(found.correlation as number, 9);
  await page.getByLabel("method").selectOption("occlusion");
  await expect(frame(page, "attribution").getByRole("heading")).toContainText(/occlusion/i);
});

test("7. a circuit: threshold, faithfulness, edges kept of total", async ({ page }) => {
  await open(page, "?tab=circuit&o.edges=20");
  await page.getByRole("button", { name: "Find the circuit" }).click();
  await expect(page.getByTestId("faithfulness")).toBeVisible({ timeout: 50_000 });
  const view = await ask<CircuitView>(`circuit?edges=20&method=eap_ig&run=${await runOf(page)}`);
  await expect(page.getByTestId("edges-total")).toContainText(`20 kept of ${view.edges_total} edges; ${view.edges_cut} smaller`);
  await expect(page.getByTestId("edges-drawn")).toHaveText("20");
  await page.getByLabel("edges drawn").focus();
  await page.keyboard.press("ArrowRight");
  await expect(page.getByTestId("edges-drawn")).toHaveText("21");
  expect(Number(await page.getByTestId("faithfulness").locator("[data-value]").getAttribute("data-value"))).toBe(view.faithfulness);
  await page.keyboard.press("t");
  await expect(frame(page, "circuit").locator("tbody tr")).toHaveCount(21);
});

test("6. back to the prompt: each generated token has its scores", async ({ page }) => {
  await open(page, "?tab=generation&o.tokens=4");
  await page.getByRole("button", { name: "Generate and trace" }).click();
  await expect(frame(page, "generation-map").getByRole("application")).toBeVisible({ timeout: 50_000 });
  await page.keyboard.press("t");
  await expect(frame(page, "generation-map").locator("tbody tr").first()).toBeVisible();
});

test("path patching stands beside direct attribution once it is asked for", async ({ page }) => {
  await open(page);
  await page.getByRole("button", { name: "Compute path patching" }).click({ timeout: 5_000 }).catch(() => undefined); // made already
  await expect(frame(page, "paths").getByRole("list", { name: /Largest by/ })).toBeVisible({ timeout: 50_000 });
});

test("pictures are saved as PNG and SVG, with their labels", async ({ page }) => {
  await open(page);
  for (const kind of ["PNG", "SVG"]) {
    const [file] = await Promise.all([page.waitForEvent("download"), saveAs(page, "dla", `${kind} picture`)]);
    expect(file.suggestedFilename()).toBe(`llmtrace-dla.${kind.toLowerCase()}`);
    const { readFileSync } = await import("node:fs");
    const bytes = readFileSync(await file.path());
    if (kind === "PNG") expect(bytes.subarray(1, 4).toString()).toBe("PNG");
    else expect(bytes.toString()).toContain(">MLP</text>");
  }
});
