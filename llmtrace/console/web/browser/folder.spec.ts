import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@playwright/test";
import type { Meta, Row, Run, Sweep } from "../src/contract";
import { frame, saveAs, saved } from "./helps";
import { COMMAND, serve } from "./service";

/** Every file of a folder and what is in it, in short. */
const files = (at: string): string[] =>
  readdirSync(at, { recursive: true, withFileTypes: true })
    .filter((one) => one.isFile())
    .map((one) => join(one.parentPath, one.name))
    .sort()
    .map((path) => `${path} ${createHash("sha256").update(readFileSync(path)).digest("hex")}`);

test("8. a saved folder: what it holds is shown, what it does not has a reason, and it is only read", async ({ page }, info) => {
  const folder = info.outputPath("saved");
  const make = (...line: string[]) => execFileSync(COMMAND, line, { stdio: "ignore" });
  make("trace", "tiny-english", "-n", "1", "--what", "pattern", "--out", folder);
  make("patch", "tiny-english", "-n", "1", "--what", "resid_pre", "--direction", "noising", "--out", join(folder, "sweep"));
  const before = files(folder);
  const { address, child } = await serve(folder);
  try {
    const home = new URL(address);
    const headers = { "X-Llmtrace-Token": home.hash.slice("#token=".length), "Content-Type": "application/json" };
    const ask = async <T>(view: string): Promise<T> => (await (await fetch(`${home.origin}/api/v1/${view}`, { headers })).json()) as T;
    page.on("pageerror", (problem) => expect.soft(problem.message).toBe("no error"));
    page.on("request", (request) => expect.soft(request.url()).toMatch(new RegExp(`^(${home.origin}/|data:|blob:)`)));
    const [meta, runs] = [await ask<Meta>("meta"), await ask<Run[]>("runs")];
    expect(meta.mode).toBe("bundle");
    const traced = runs.find((run) => run.clean.tokens.length) as Run;
    const swept = runs.at(-1) as Run;

    await page.goto(`${home.origin}/?run=${traced.id}&tab=attention&at=a3.h2${home.hash}`);
    await expect(page.getByText("bundle, read only")).toBeVisible();
    await expect(frame(page, "attention").getByRole("application")).toBeVisible();
    const row = await saved<Row>(page, () => saveAs(page, "row", "JSON data"));
    expect(row).toEqual(await ask<Row>(`attention/row?head=2&layer=3&query=${traced.clean.tokens.length - 1}&run=${traced.id}`));
    for (const name of ["Ablate a3.h2", "New run"]) await expect(page.getByRole("button", { name, exact: true })).toBeDisabled();
    await expect(page.getByLabel("Inspector")).toContainText("has no model; start llmtrace console MODEL");

    await page.keyboard.press("3");
    await expect(page.getByRole("tabpanel")).toContainText("Not in this source:");
    await page.keyboard.press("5");
    await page.getByLabel("Run A", { exact: true }).selectOption(swept.id);
    await expect(frame(page, "patch").getByRole("application")).toBeVisible();
    const sweep = await saved<Sweep>(page, () => saveAs(page, "patch", "JSON data"));
    expect(sweep).toEqual(await ask<Sweep>(`patch?run=${swept.id}&site=resid_pre`));
    expect(sweep.values).toHaveLength(4);

    for (const [view, body] of [["runs", { prompt: "Mary" }], ["jobs", { view: "patch", run: swept.id }]] as const) {
      const refused = await fetch(`${home.origin}/api/v1/${view}`, { method: "POST", headers, body: JSON.stringify(body) });
      expect([refused.status, await refused.text()]).toEqual([404, expect.stringContaining("llmtrace console MODEL")]);
    }
  } finally {
    child.kill("SIGINT");
  }
  expect(files(folder)).toEqual(before);
});
