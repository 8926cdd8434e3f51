import { expect, test } from "@playwright/test";
import type { Job, Run } from "../src/contract";
import { ask, exact, frame, open } from "./helps";

const SITES = ["resid_pre", "attn_out", "mlp_out"]; // each try its own: what is made is kept

test("a sweep is cancelled in its middle: nothing of it is kept, and the next one is whole", async ({ page }, info) => {
  const long = (name: string) => Array(4).fill(`When Mary and John went to the store , ${name} gave a drink to`).join(" ");
  const run = await ask<Run>("runs", { prompt: long("John"), against: long("Mary") });
  const site = SITES[info.retry] as string;
  await open(page, `?run=${run.id}&tab=patch&o.site=${site}`);
  const value = await exact(page, "value");
  const panel = frame(page, "patch");
  // Clicked by the page itself with the first row: a sweep of seconds does not wait for the way from here to there.
  await panel.evaluate((at) => {
    const watch = new MutationObserver(() => {
      if (!/[1-3] of 4/.test(at.textContent ?? "")) return;
      watch.disconnect();
      [...at.querySelectorAll("button")].find((button) => button.textContent === "Cancel")?.click();
    });
    watch.observe(at, { childList: true, subtree: true, characterData: true });
  });
  await panel.getByRole("button", { name: "Run the sweep" }).click();
  await expect(panel).toContainText("Cancelled; nothing was kept.");
  await expect(page.getByLabel("Jobs")).toContainText("cancelled");
  const job = (await ask<Job[]>("jobs")).findLast((one) => one.query["run"] === run.id) as Job;
  expect([job.state, job.query["site"]]).toEqual(["cancelled", site]);
  expect(job.done).toBeLessThan(4);
  await expect(ask(`patch?run=${run.id}&site=${site}`)).rejects.toThrow("409"); // not even half of it
  await expect(panel.getByRole("application")).toHaveCount(0);

  await panel.getByRole("button", { name: "Run the sweep" }).click();
  await expect(panel.getByRole("application")).toBeVisible({ timeout: 60_000 });
  await expect(page.getByLabel("Jobs")).toContainText("done");
  expect(await exact(page, "value")).toBe(value);
});
