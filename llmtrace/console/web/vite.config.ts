import { createHash } from "node:crypto";
import react from "@vitejs/plugin-react";
import type { Plugin } from "vite";
import { viteSingleFile } from "vite-plugin-singlefile";
import { defineConfig } from "vitest/config";

/** React names a web page in its error texts; nothing in this file is an address. */
const noAddress: Plugin = {
  name: "no-address",
  apply: "build",
  generateBundle(_, files) {
    for (const file of Object.values(files))
      if (file.type === "chunk") file.code = file.code.replaceAll("https://react.dev/errors/", "React error ");
  },
};

/** The page allows its own script by its hash, and no other: also where it is opened as a file, without a server. */
const policy: Plugin = {
  name: "policy",
  apply: "build",
  enforce: "post",
  generateBundle: {
    order: "post",
    handler(_, files) {
      const page = Object.values(files).find((file) => file.fileName.endsWith(".html"));
      if (page?.type !== "asset") return;
      const text = String(page.source).replace(/\r\n/g, "\n").replace('<script type="module" crossorigin>', '<script type="module">');
      const script = /<script type="module">([\s\S]*?)<\/script>/.exec(text)?.[1];
      if (script === undefined) throw new Error("the page has no script of its own");
      const hash = createHash("sha256").update(script).digest("base64");
      const says =
        `default-src 'none'; script-src 'sha256-${hash}'; style-src 'unsafe-inline'; img-src data: blob:; ` +
        "connect-src 'self'; base-uri 'none'; form-action 'none'";
      page.source = text.replace(
        '<meta charset="utf-8" />',
        () => `<meta charset="utf-8" />\n    <meta http-equiv="Content-Security-Policy" content="${says}" />`,
      );
      page.fileName = "console.html";
    },
  },
};

export default defineConfig({
  plugins: [react(), noAddress, viteSingleFile({ removeViteModuleLoader: true }), policy],
  css: { modules: { generateScopedName: (name, file) => `${file.split("/").pop()?.split(".")[0]}-${name}` } },
  build: { outDir: "../static", emptyOutDir: false, target: "es2022", modulePreload: false, reportCompressedSize: false },
  test: { include: ["unit/**/*.test.ts"] },
});
