import { expect, test } from "@playwright/test";
import type { HeadCard, Overview, Run } from "../src/contract";
import { ask, exact, frame, open, runOf, saveAs, saved } from "./helps";

test("1. why A and not B: rank by direct attribution, click a head, ablate it, see the new difference", async ({ page }) => {
  await open(page);
  const run = (await ask<Run[]>("runs")).find((one) => one.id === "") ?? (await ask<Run[]>("runs")).find((one) => !one.parent);
  const id = await runOf(page);
  const overview = await ask<Overview>(`overview?run=${id}`);
  const heads = overview.maps[0]?.heads ?? [];
  const flat = [...heads.flatMap((row, l) => row.map((value, h) => ({ name: `head ${l}.${h}`, value }))), ...(overview.maps[0]?.mlps ?? []).map((value, l) => ({ name: `MLP ${l}`, value }))];
  const best = flat.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  const list = frame(page, "dla").getByRole("list", { name: /Largest by/ });
  await expect(list.getByRole("button").first()).toHaveText(`1. ${best[0]?.name}`);
  const head = best.find((one) => one.name.startsWith("head")) as { name: string; value: number };
  await list.getByRole("button", { name: new RegExp(`${head.name.replace(".", "\\.")}$`) }).click();
  const [layer, at] = head.name.slice(5).split(".") as [string, string];
  const card = await ask<HeadCard>(`head?head=${at}&layer=${layer}&run=${id}`);
  await expect.poll(() => exact(page, "direct")).toBeCloseTo(card.direct as number, 6);
  expect(card.direct).toBeCloseTo(head.value, 5);

  const before = await exact(page, "value");
  await page.getByRole("button", { name: `Ablate a${layer}.h${at}` }).click();
  await expect(page.getByTestId("change")).toBeVisible();
  const made = await runOf(page);
  const known = (await ask<Run[]>("runs")).find((one) => one.id === made) as Run;
  expect(known.edits).toEqual([{ kind: "ablate", node: `a${layer}.h${at}`, how: "zero", positions: null }]);
  expect(await exact(page, "value")).toBe(known.value);
  expect(await exact(page, "before")).toBe(before);
  expect(known.parent).toBe(id);
  expect(run).toBeTruthy();

  await page.getByRole("button", { name: "A − B" }).first().click();
  await expect(frame(page, "dla").getByRole("heading")).toContainText("run A − run B");
  const difference = await saved<{ a: { heads: number[][] }; b: { heads: number[][] } }>(page, () => saveAs(page, "dla", "JSON data"));
  expect(difference.b.heads).toEqual(heads);
  expect(difference.a.heads).not.toEqual(heads);
});

test("4. what if: edits add up, undo gives the clean run back bit for bit, redo, remove, save and load", async ({ page }) => {
  await open(page);
  const [clean, id] = [await exact(page, "value"), await runOf(page)];
  await page.keyboard.press("]");
  await page.keyboard.press("a");
  await expect(page.getByTestId("edits").getByRole("listitem")).toHaveCount(1);
  const one = await exact(page, "value");
  await page.keyboard.press(".");
  await page.getByRole("button", { name: "Patch from other" }).click();
  await expect(page.getByTestId("edits").getByRole("listitem")).toHaveCount(2);
  const two = await exact(page, "value");
  expect(new Set([clean, one, two]).size).toBe(3);

  await page.keyboard.press("Control+z");
  expect(await exact(page, "value")).toBe(one);
  await page.keyboard.press("Control+z");
  expect(await exact(page, "value")).toBe(clean);
  expect(await runOf(page)).toBe(id);
  await page.keyboard.press("Control+Shift+z");
  await page.getByRole("button", { name: "Redo" }).click();
  expect(await exact(page, "value")).toBe(two);

  await page.getByLabel("Name of this run").fill("my edits");
  const file = await saved<{ name: string; run: object }>(page, () => page.getByRole("button", { name: "Save JSON" }).click());
  expect(file.name).toBe("my edits");
  await page.getByRole("button", { name: /^Remove: ablate/ }).click();
  await expect(page.getByTestId("edits").getByRole("listitem")).toHaveCount(1);
  await page.setInputFiles("input[type=file]", { name: "edits.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(file)) });
  await expect(page.getByTestId("edits").getByRole("listitem")).toHaveCount(2);
  expect(await exact(page, "value")).toBe(two);
  await page.setInputFiles("input[type=file]", { name: "edits.json", mimeType: "application/json", buffer: Buffer.from("{}") });
  await expect(page.getByRole("alert")).toContainText("not a list of edits");
});

test("knock out and steer are edits too; an impossible one is refused with a sentence", async ({ page }) => {
  await open(page, "?tab=attention&at=a1.h0&q=5&k=2");
  await page.getByRole("button", { name: "Knock out 5 → 2" }).click();
  await expect(page.getByTestId("edits")).toContainText("from token 5 to token 2");
  await page.getByLabel("Coefficient of steering").fill("-0.5");
  await page.getByRole("button", { name: "Steer layer 1" }).click();
  await expect(page.getByTestId("edits")).toContainText("steer layer 1 by -0.5");
  await page.getByRole("button", { name: "New run" }).click();
  await page.getByLabel("Foil").fill("two words that are no token");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await expect(page.getByRole("alert")).toContainText("xpected");
});
