import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { expect, test } from "@playwright/test";
import type { Meta, Run } from "../src/contract";
import { fakeTape, HOSTILE, pageWith } from "./fake";
import { exact, frame, open } from "./helps";

test("10. hand over: an HTML file that opens with no service and no network, and shows the same", async ({ page, browser }, info) => {
  await open(page, "?at=a0.h0");
  await page.keyboard.press("a");
  await expect(page.getByTestId("change")).toBeVisible();
  await page.keyboard.press("3");
  await expect(frame(page, "lens").getByRole("application")).toBeVisible();
  await page.keyboard.press("1");
  await page.getByText("Share ▾").click();
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "HTML file" }).click()]);
  const path = info.outputPath("handed.html");
  await file.saveAs(path);
  const [value, run] = [await exact(page, "value"), await page.getByLabel("Run A", { exact: true }).inputValue()];

  const context = await browser.newContext({ offline: true });
  const other = await context.newPage();
  const asked: string[] = [];
  other.on("request", (request) => asked.push(request.url()));
  other.on("pageerror", (problem) => expect.soft(problem.message).toBe("no error"));
  await other.goto(`${pathToFileURL(path)}?run=${run}`);
  await expect(other.getByTestId("value")).toBeVisible();
  expect(await exact(other, "value")).toBe(value);
  await other.keyboard.press("3");
  await expect(frame(other, "lens").getByRole("application")).toBeVisible();
  await other.keyboard.press("5");
  await expect(frame(other, "patch").getByRole("button", { name: "Run the sweep" })).toBeDisabled();
  await expect(other.getByRole("button", { name: "New run" })).toBeDisabled();
  expect(asked.filter((url) => !/^(file|data|blob):/.test(url))).toEqual([]);
  await context.close();
});

test("a link brings the same view back; the token does not stay in the address bar", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await open(page, "?tab=attention&at=a1.h1&q=4");
  expect(page.url()).not.toContain("token");
  await page.getByText("Share ▾").click();
  await page.getByRole("button", { name: "Copy link" }).click();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  const again = await context.newPage();
  await again.goto(link);
  await expect(again.getByRole("heading", { name: "head 1.1", exact: true })).toBeVisible();
  expect(new URL(again.url()).searchParams.get("q")).toBe("4");
  expect(again.url()).not.toContain("token");
});

test("without its token the page says what to do", async ({ page }) => {
  const home = new URL(process.env["CONSOLE_URL"] as string);
  await page.goto(home.origin);
  await expect(page.getByRole("alert")).toContainText("#token");
});

test("hostile text is shown as text, and nothing of it runs", async ({ page }, info) => {
  const path = info.outputPath("hostile.html");
  const tape = fakeTape({ layers: 2, heads: 2, tokens: 25, hostile: true });
  writeFileSync(path, pageWith(tape));
  const problems: string[] = [];
  page.on("pageerror", (problem) => problems.push(problem.message));
  page.on("dialog", (dialog) => (problems.push("dialog"), void dialog.dismiss()));
  for (const tab of ["overview", "attention", "lens", "attribution", "patch", "circuit", "compare", "generation"]) {
    await page.goto(`${pathToFileURL(path)}?tab=${tab}&at=a1.h1&b=r1`);
    await expect(page.getByTestId("value")).toBeVisible();
    await page.keyboard.press("t");
    await page.waitForTimeout(100);
    expect(await page.title()).toBe("fake model · LLM-Trace console");
  }
  const strip = page.getByLabel("Tokens of run A");
  await expect(strip).toContainText("</script><script>document.title='owned'</script>".replaceAll(" ", "·"));
  await expect(strip).toContainText("⟨U+202E⟩abc");
  expect(await page.locator("#page img, #page script").count()).toBe(0);
  expect(problems).toEqual([]);
  expect(HOSTILE.length).toBeGreaterThan(5);
});

test("a file without some views opens where it has one, and says why the others are not there", async ({ page }, info) => {
  const path = info.outputPath("part.html");
  const tape = fakeTape({ layers: 2, heads: 2, tokens: 12 });
  const meta = tape.answers["meta"] as Meta;
  tape.answers["meta"] = { ...meta, missing: { ...meta.missing, overview: "A trace holds no answers.", lens: "No lens was kept." } };
  tape.answers["runs"] = (tape.answers["runs"] as Run[]).map((run) => ({ ...run, correct: null, wrong: null, value: null, before: null, clean: { ...run.clean, top: [], prompt: "" } }));
  for (const key of Object.keys(tape.answers)) if (/^(overview|lens)/.test(key)) delete tape.answers[key];
  writeFileSync(path, pageWith(tape));
  await page.goto(String(pathToFileURL(path)));
  await expect(page.getByRole("tab", { selected: true })).toContainText("Attention");
  await expect(frame(page, "attention").getByRole("application")).toBeVisible();
  await expect(page.getByText("not kept")).toHaveCount(0);
  await page.keyboard.press("3");
  await expect(page.getByRole("tabpanel")).toContainText("No lens was kept.");
  await page.keyboard.press("1");
  await expect(page.getByRole("tabpanel")).toContainText("A trace holds no answers.");
  await expect(page.locator("[data-frame]")).toHaveCount(0);
});

test("the page is one file: no address in it, no script but its own", () => {
  const page = readFileSync(`${import.meta.dirname}/../../static/console.html`, "utf8");
  const addresses = page.match(/https?:\/\/[^\s"'`<)]+/g) ?? [];
  expect(addresses.filter((url) => !/^http:\/\/www\.w3\.org\/(1998\/Math\/MathML|1999\/xlink|2000\/svg|XML\/1998\/namespace)$/.test(url))).toEqual([]);
  expect(page.match(/<script type="[^"]*"[^>]*>/g)).toHaveLength(2);
  expect(page).toContain('<script type="application/json" id="tape"></script>');
  expect(page).not.toMatch(/\beval\(|new Function\(/);
});
