/** The real service, started once for all browser tests; or the one whose address CONSOLE_URL holds. */
import { spawn } from "node:child_process";

const COMMAND = process.env["LLMTRACE"] ?? "llmtrace";
export const PROMPT = "When Mary and John went to the store, John gave a drink to";
export const AGAINST = "When Mary and John went to the store, Mary gave a drink to";

export default async function service(): Promise<(() => void) | undefined> {
  if (process.env["CONSOLE_URL"]) return;
  const child = spawn(COMMAND, ["console", "tiny-english", "--no-browser", "--port", "0", "--prompt", PROMPT, "--against", AGAINST], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const address = await new Promise<string>((found, lost) => {
    const read = (text: Buffer) => {
      said += text.toString();
      const match = /http:\/\/127\.0\.0\.1:\d+\/#token=[\w-]+/.exec(said);
      if (match) found(match[0]);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("error", lost);
    child.on("exit", (code) => lost(new Error(`${COMMAND} console ended with ${code}: ${said}`)));
    setTimeout(() => lost(new Error(`${COMMAND} console printed no address in 120 s: ${said}`)), 120_000).unref();
  });
  process.env["CONSOLE_URL"] = address;
  return () => void child.kill("SIGINT");
}
