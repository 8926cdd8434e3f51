import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { KIND, SCHEMA_VERSION, type Meta, type Run } from "./contract";
import { Answers, setAnswers } from "./source/answers";
import { pickSource } from "./source/pick";
import { firstTab } from "./state/state";
import { dispatch } from "./state/store";
import { fromUrl } from "./state/url";
import "./style.css";

async function start(): Promise<void> {
  const source = pickSource();
  const meta = await source.json<Meta>("meta", {});
  if (meta.kind !== KIND || meta.schema_version !== SCHEMA_VERSION)
    throw new Error(`This page reads ${KIND} version ${SCHEMA_VERSION}; the source gives ${meta.kind} version ${meta.schema_version}.`);
  const runs = await source.json<Run[]>("runs", {});
  setAnswers(new Answers(source));
  dispatch({ do: "meta", meta });
  dispatch({ do: "runs", runs });
  const said = fromUrl(location.search);
  const known = (id: string | null | undefined) => runs.find((run) => run.id === id)?.id ?? null;
  const b = known(said.b);
  dispatch({ do: "restore", part: { tab: firstTab(meta), ...said, a: known(said.a) ?? (runs.find((run) => !run.parent) ?? runs[0])?.id ?? null, b, shown: b ? (said.shown ?? "a") : "a" } });
  document.title = `${meta.title} · LLM-Trace console`;
}

const place = document.getElementById("page") as HTMLElement;
start()
  .then(() => createRoot(place).render(<StrictMode><App /></StrictMode>))
  .catch((problem: unknown) => {
    const box = document.createElement("p");
    box.setAttribute("role", "alert");
    box.style.cssText = "margin:2rem auto;max-width:60ch;padding:0 1rem";
    box.textContent = problem instanceof Error ? problem.message : String(problem);
    place.replaceChildren(box);
  });
