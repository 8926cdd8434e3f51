import { Frame } from "../parts/Frame";
import { useRunA, useRunB } from "../state/store";
import { Heads } from "./compare/Heads";
import { Maps } from "./compare/Maps";
import { Numbers } from "./compare/Numbers";
import { TwoHeads } from "./compare/TwoHeads";
import css from "./panels.module.css";

export function Compare() {
  const [a, b] = [useRunA(), useRunB()];
  if (!a) return null;
  return (
    <div className={css.grid}>
      {b ? (
        <>
          <Numbers a={a} b={b} />
          <Maps a={a} b={b} />
        </>
      ) : (
        <Frame id="numbers" title="Two runs">
          <p className="note">There is no run B. Make an edit (B is then the run before it), or choose one in the top bar.</p>
        </Frame>
      )}
      <Heads run={a} />
      <TwoHeads a={a} b={b} />
    </div>
  );
}
