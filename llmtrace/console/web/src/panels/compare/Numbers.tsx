import type { Run } from "../../contract";
import { Num, Tok } from "../../parts/bits";
import { Frame } from "../../parts/Frame";
import { runName } from "../../parts/TopBar";
import { wordsOf } from "../../state/edits";
import { useStore } from "../../state/store";
import css from "../panels.module.css";

const mean = (values: (number | null)[]): number | null => {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
};

const modelOf = (run: Run): string => String(run.provenance["model"] ?? "not kept");

/** What two runs say, number by number. */
export function Numbers({ a, b }: { a: Run; b: Run }) {
  const names = useStore((s) => s.names);
  const rows: [string, number | null, number | null][] = [
    ["logit difference, logits", a.value, b.value],
    ["probability of the first choice", a.clean.top[0]?.probability ?? null, b.clean.top[0]?.probability ?? null],
    ["entropy of the next token, nats", a.clean.entropy, b.clean.entropy],
    ["mean log-probability of the prompt, nats", mean(a.clean.log_probability), mean(b.clean.log_probability)],
    ["logit difference on the other prompt, logits", a.against?.metric ?? null, b.against?.metric ?? null],
  ];
  return (
    <Frame id="numbers" wide title="Two runs" what={a.correct?.id === b.correct?.id && a.wrong?.id === b.wrong?.id ? undefined : "The runs have different answers or foils: their logit differences are of different tokens."} data={{ a, b }} python={`${a.python}\n\n${b.python}`}>
      <div className={css.scroll} tabIndex={0} role="region" aria-label="Two runs, number by number">
        <table>
          <thead>
            <tr>
              <th scope="col">of END</th>
              <th scope="col" className="n" title={runName(a, names)}>A: <bdi className={css.cut}>{runName(a, names)}</bdi></th>
              <th scope="col" className="n" title={runName(b, names)}>B: <bdi className={css.cut}>{runName(b, names)}</bdi></th>
              <th scope="col" className="n">A − B</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(([name, x, y]) => (
              <tr key={name}>
                <td>{name}</td>
                <td className="n"><Num value={x} places={4} /></td>
                <td className="n"><Num value={y} places={4} /></td>
                <td className="n"><Num value={x !== null && y !== null ? x - y : null} places={4} sign /></td>
              </tr>
            ))}
            <tr>
              <td>says</td>
              <td className="n"><Tok text={a.clean.top[0]?.token.text} /></td>
              <td className="n"><Tok text={b.clean.top[0]?.token.text} /></td>
              <td />
            </tr>
            <tr>
              <td>model</td>
              <td className="n"><bdi>{modelOf(a)}</bdi></td>
              <td className="n"><bdi>{modelOf(b)}</bdi></td>
              <td className="n">{a.provenance["weights"] === b.provenance["weights"] ? "the same" : "others"}</td>
            </tr>
            <tr>
              <td>edits</td>
              <td className="n">{a.edits.map(wordsOf).join("; ") || "none"}</td>
              <td className="n">{b.edits.map(wordsOf).join("; ") || "none"}</td>
              <td />
            </tr>
          </tbody>
        </table>
      </div>
    </Frame>
  );
}
