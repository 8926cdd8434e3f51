import { expect, test } from "@playwright/test";
import { exact, frame, open } from "./helps";

/** The picture of the tutorial and of the README; UPDATE_SHOTS=1 writes it anew. */
test("the picture of the tutorial shows what it says", async ({ page }) => {
  await page.emulateMedia({ colorScheme: "light" });
  await open(page, "?at=a3.h2");
  const compute = page.getByRole("button", { name: "Compute path patching" });
  // An answer that another test has had made may come between the look and the click: then there is nothing to click.
  await compute.click({ timeout: 3_000 }).catch(() => undefined);
  await expect(frame(page, "paths").getByRole("list", { name: /Largest by/ })).toBeVisible({ timeout: 50_000 });
  await expect.poll(() => exact(page, "direct")).not.toBe(0);
  await expect(page.getByRole("heading", { name: "head 3.2", exact: true })).toBeVisible();
  await page.mouse.move(640, 790);
  if (process.env["UPDATE_SHOTS"]) await page.screenshot({ path: `${import.meta.dirname}/../../../../tutorials/inspection_console.png` });
});
