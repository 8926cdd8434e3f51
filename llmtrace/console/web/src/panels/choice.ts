import { useStore } from "../state/store";

type Offered = "token_methods" | "edge_methods" | "sites";

const FIRST: Record<Offered, string> = { token_methods: "decompx", edge_methods: "eap_ig", sites: "resid_pre" };
const NONE: Record<string, string> = {};

/** What a picker says: the person's choice, else the usual one, else the first that is offered. */
export function useChoice(name: string, offered: Offered): { value: string; options: Record<string, string> } {
  const options = useStore((s) => s.meta?.choices[offered] ?? NONE);
  const said = useStore((s) => s.options[name]);
  const value = said && said in options ? said : FIRST[offered] in options ? FIRST[offered] : (Object.keys(options)[0] ?? "");
  return { value, options };
}
