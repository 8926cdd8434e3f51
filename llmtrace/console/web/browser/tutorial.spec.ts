import { readFileSync } from "node:fs";
import { expect, test, type Page } from "@playwright/test";
import type { Job } from "../src/contract";
import { ask, exact, frame, open, runOf } from "./helps";

const TUTORIALS = `${import.meta.dirname}/../../../../tutorials`;
const HEAD = "a3.h2";

/** Width and height that a PNG says it has. */
const sizeOf = (png: Buffer): [number, number] => [png.readUInt32BE(16), png.readUInt32BE(20)];

/** Everything below `from` as a picture, which UPDATE_SHOTS=1 writes anew; else one as large must be there. The words of the page. */
async function shot(page: Page, name: string, from = 0): Promise<string> {
  const path = `${TUTORIALS}/${name}.png`;
  await page.mouse.move(640, 799); // nothing under the pointer is lit
  await page.waitForLoadState("networkidle");
  const { width, height } = page.viewportSize() as { width: number; height: number };
  const clip = { x: 0, y: from, width, height: height - from };
  const taken = await page.screenshot(process.env["UPDATE_SHOTS"] ? { path, clip } : { clip });
  expect(sizeOf(readFileSync(path))).toEqual(sizeOf(taken));
  return page.locator("body").innerText();
}

test("the tutorial: importance map, head, ablate, new logit difference, the same as Python", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.emulateMedia({ colorScheme: "light" });
  const tutorial = readFileSync(`${TUTORIALS}/inspection_console.md`, "utf8");
  await open(page);
  const run = await runOf(page);
  // Made before the page asks, so that its pictures show no job whether or not another test asked first.
  const job = await ask<Job>("jobs", { view: "paths", run });
  await expect.poll(async () => (await ask<Job[]>("jobs")).find((one) => one.id === job.id)?.state).toBe("done");
  await page.reload();

  const paths = frame(page, "paths").getByRole("list", { name: /Largest by/ });
  await expect(paths.getByRole("button").first()).toHaveText("1. head 3.2");
  await paths.getByRole("button").first().click();
  await expect(page.getByRole("heading", { name: "head 3.2", exact: true })).toBeVisible();
  await expect.poll(() => exact(page, "direct")).not.toBe(0);
  const before = await exact(page, "value");
  let seen = await shot(page, "inspection_console");

  await page.getByRole("tab", { name: /Attention/ }).click();
  await expect(frame(page, "attention").getByRole("application")).toBeVisible();
  await page.getByTitle("Lock this query and key").first().click();
  await expect(page.getByRole("button", { name: "Knock out 14 → 10" })).toBeEnabled();
  seen += await shot(page, "inspection_console_head");

  await page.getByRole("tab", { name: /Overview/ }).click();
  await page.getByRole("button", { name: `Ablate ${HEAD}` }).click();
  await expect(page.getByTestId("change")).toBeVisible();
  await page.getByRole("button", { name: "A − B" }).first().click();
  await expect(frame(page, "dla").getByRole("heading")).toContainText("run A − run B");
  await expect(frame(page, "dla")).toContainText(/0\.694 logits in run A, 5\.696 in run B/);
  await expect(page.getByText("It writes nothing at END")).toBeAttached();
  const [after, change] = [await exact(page, "value"), await exact(page, "change")];
  expect(after - before).toBeCloseTo(change, 5);
  seen += await shot(page, "inspection_console_ablated");
  const numbers = tutorial.match(/[+−]?\d+\.\d{3}\b/g) ?? [];
  expect(numbers.length).toBeGreaterThan(10);
  expect(numbers.filter((number) => !seen.includes(number))).toEqual([]);

  await page.getByLabel("What was done").getByRole("button", { name: "Python" }).click();
  await shot(page, "inspection_console_python", 530); // the drawer, in the fonts of the pictures
  await page.getByLabel("Edits of run A").getByRole("button", { name: "Copy as Python" }).click();
  const code = await page.evaluate(() => navigator.clipboard.readText());
  expect(tutorial).toContain(`\`\`\`python\n${code.trimEnd()}\n\`\`\``);

  await page.getByRole("button", { name: /Undo/ }).click();
  expect(await exact(page, "value")).toBe(before);
});
