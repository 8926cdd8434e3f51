import AxeBuilder from "@axe-core/playwright";
import { expect, test } from "@playwright/test";
import { frame, open } from "./helps";

const TABS = ["overview", "attention", "lens", "attribution", "patch", "circuit", "compare", "generation", "findings"];

for (const scheme of ["light", "dark"] as const)
  test(`axe finds nothing serious on any tab, ${scheme}`, async ({ page }) => {
    await page.emulateMedia({ colorScheme: scheme });
    await open(page, "?at=a0.h0");
    await page.keyboard.press("a");
    await expect(page.getByTestId("change")).toBeVisible();
    for (const [i, tab] of TABS.entries())
      for (const table of [false, true]) {
        await page.keyboard.press("Escape");
        if (table) await page.keyboard.press("t");
        await page.keyboard.press(String(i + 1));
        await page.waitForLoadState("networkidle");
        const { violations } = await new AxeBuilder({ page }).analyze();
        const found = violations.filter((one) => one.impact === "serious" || one.impact === "critical");
        expect.soft(found.map((one) => `${tab}: ${one.id} ${one.nodes.slice(0, 3).map((node) => node.html)}`)).toEqual([]);
        if (table) await page.keyboard.press("t");
      }
    for (const key of ["?", "/"]) {
      await page.keyboard.press(key);
      const { violations } = await new AxeBuilder({ page }).analyze();
      expect.soft(violations.filter((one) => one.impact === "serious" || one.impact === "critical").map((one) => one.id)).toEqual([]);
      await page.keyboard.press("Escape");
    }
  });

for (const [width, height] of [[360, 740], [1280, 800], [2560, 1440]] as const)
  test(`nothing is wider than a page of ${width} px`, async ({ page }) => {
    await page.setViewportSize({ width, height });
    await open(page, "?at=a0.h0");
    for (let i = 1; i <= TABS.length; i++) {
      await page.keyboard.press(String(i));
      await page.waitForLoadState("networkidle");
      expect.soft(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), `tab ${i}`).toBeLessThanOrEqual(0);
    }
  });

test("keys: all that the sheet says", async ({ page }) => {
  await open(page);
  const param = (name: string) => new URL(page.url()).searchParams.get(name);
  await page.keyboard.press("]");
  expect(param("at")).toBe("a0.h0");
  await page.keyboard.press("]");
  await page.keyboard.press(".");
  expect(param("at")).toBe("a1.h1");
  await page.keyboard.press("[");
  await page.keyboard.press(",");
  expect(param("at")).toBe("a0.h0");
  await page.keyboard.press(",");
  expect(param("at")).toBe("m0");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Shift+ArrowRight");
  expect([param("q"), param("k")]).toEqual(["1", "0"]);
  await page.keyboard.press("p");
  await expect(page.getByRole("button", { name: "Unpin m0" })).toBeVisible();
  await page.keyboard.press("t");
  await expect(frame(page, "dla").getByRole("table")).toBeVisible();
  await page.keyboard.press("t");
  await frame(page, "dla").hover();
  await page.keyboard.press("f");
  await expect(frame(page, "dla").getByRole("button", { name: "Close" })).toBeVisible();
  await page.keyboard.press("Escape");
  await page.keyboard.press("/");
  await page.getByLabel("Find a token, head or tab").fill("1.0");
  await page.keyboard.press("Enter");
  expect(param("at")).toBe("a1.h0");
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog", { name: "Keys" })).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toHaveCount(0);
  for (const [key, tab] of [["3", "lens"], ["9", "findings"]] as const) {
    await page.keyboard.press(key);
    expect(param("tab")).toBe(tab);
  }
});
