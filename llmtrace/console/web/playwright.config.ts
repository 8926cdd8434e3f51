import { existsSync } from "node:fs";
import { defineConfig } from "@playwright/test";

const chromium = process.env["CHROMIUM"] ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find((path) => existsSync(path));

export default defineConfig({
  testDir: "browser",
  timeout: 240_000,
  expect: { timeout: 30_000 },
  workers: 1,
  retries: 2, // a machine that is busy with other tests; what needed it is told as flaky
  reporter: [["list"]],
  globalSetup: "./browser/service.ts",
  use: {
    viewport: { width: 1280, height: 800 },
    launchOptions: {
      executablePath: chromium,
      args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
    },
  },
});
