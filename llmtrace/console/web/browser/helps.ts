import { readFileSync } from "node:fs";
import { expect, type Page } from "@playwright/test";
import { AGAINST, PROMPT } from "./service";
import type { Run } from "../src/contract";
import { readOne, type Tensor } from "../src/read/safetensors";

export const address = (): URL => new URL(process.env["CONSOLE_URL"] as string);
const token = (): string => new URLSearchParams(address().hash.slice(1)).get("token") as string;

/** Opens the page; anything that it throws, logs as an error or asks of another machine fails the test. */
export async function open(page: Page, search = ""): Promise<void> {
  const home = address();
  page.on("pageerror", (problem) => expect.soft(problem.message).toBe("no error"));
  page.on("request", (request) => expect.soft(request.url()).toMatch(new RegExp(`^(${home.origin}/|data:|blob:)`)));
  const run = await ask<Run>("runs", { prompt: PROMPT, against: AGAINST });
  const said = new URLSearchParams(search);
  if (!said.has("run")) said.set("run", run.id);
  await page.goto(`${home.origin}/?${said}${home.hash}`);
  await expect(page.getByTestId("value")).toBeVisible();
}

/** What the service itself says. */
export async function ask<T>(view: string, body?: object): Promise<T> {
  const answer = await fetch(`${address().origin}/api/v1/${view}`, {
    headers: { "X-Llmtrace-Token": token(), ...(body && { "Content-Type": "application/json" }) },
    ...(body && { method: "POST", body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(`${view}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as T;
}

export async function askTensor(view: string): Promise<Tensor> {
  const answer = await fetch(`${address().origin}/api/v1/${view}`, { headers: { "X-Llmtrace-Token": token() } });
  return readOne(await answer.arrayBuffer());
}

/** The number behind what is written, in full. */
export const exact = async (page: Page, id: string): Promise<number> => Number(await page.getByTestId(id).first().getAttribute("data-value"));

/** A JSON file that the page saves. */
export async function saved<T>(page: Page, act: () => Promise<void>): Promise<T> {
  const [file] = await Promise.all([page.waitForEvent("download"), act()]);
  return JSON.parse(readFileSync(await file.path(), "utf8")) as T;
}

export const frame = (page: Page, id: string) => page.locator(`[data-frame="${id}"]`);

export async function saveAs(page: Page, id: string, what: string): Promise<void> {
  // Once more where the answer came between the two clicks, and a new frame with a closed menu took this one's place.
  await expect(async () => {
    const item = frame(page, id).getByRole("button", { name: what });
    if (!(await item.isVisible())) await frame(page, id).getByText("Save ▾").click({ timeout: 5_000 });
    await item.click({ timeout: 2_000 });
  }).toPass();
}

export const runOf = (page: Page): Promise<string> => page.getByLabel("Run A", { exact: true }).inputValue();
