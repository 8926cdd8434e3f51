/** The real service, started once for all browser tests; or the one whose address CONSOLE_URL holds. */
import { spawn, type ChildProcess } from "node:child_process";

export const COMMAND = process.env["LLMTRACE"] ?? "llmtrace";
export const PROMPT = "When Mary and John went to the store, John gave a drink to";
export const AGAINST = "When Mary and John went to the store, Mary gave a drink to";

/** `llmtrace console` with these arguments, and the address that it prints. */
export async function serve(...given: string[]): Promise<{ address: string; child: ChildProcess }> {
  const child = spawn(COMMAND, ["console", ...given, "--no-browser", "--port", "0"], { stdio: ["ignore", "pipe", "pipe"] });
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
  return { address, child };
}

export default async function service(): Promise<(() => void) | undefined> {
  if (process.env["CONSOLE_URL"]) return;
  const { address, child } = await serve("tiny-english", "--prompt", PROMPT, "--against", AGAINST);
  process.env["CONSOLE_URL"] = address;
  return () => void child.kill("SIGINT");
}
