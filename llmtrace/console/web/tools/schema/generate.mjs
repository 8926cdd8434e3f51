// llmtrace/console/openapi.json -> web/src/schema.d.ts. An argument names another openapi.json.
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import openapi, { astToString } from "openapi-typescript";

const here = import.meta.dirname;
const from = resolve(process.argv[2] ?? `${here}/../../../openapi.json`);
const types = await openapi(JSON.parse(readFileSync(from, "utf8")), { alphabetize: true, defaultNonNullable: true });
const head = "// Made from llmtrace/console/openapi.json by `npm run schema`. Not written by hand.\n\n";
writeFileSync(`${here}/../../src/schema.d.ts`, head + astToString(types));
