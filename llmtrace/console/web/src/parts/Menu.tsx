import { useRef } from "react";
import css from "./Menu.module.css";

interface Item {
  name: string;
  act: () => void;
  off?: string | null; // why it cannot be done here
}

/** A small list of acts behind a button. */
export function Menu({ label, items, quiet = true }: { label: string; items: Item[]; quiet?: boolean }) {
  const box = useRef<HTMLDetailsElement>(null);
  const close = () => box.current?.removeAttribute("open");
  return (
    <details
      ref={box}
      className={css.menu}
      onBlur={(event) => !event.currentTarget.contains(event.relatedTarget) && close()}
      onKeyDown={(event) => event.key === "Escape" && (close(), event.stopPropagation())}
    >
      <summary className={quiet ? "quiet" : ""}>{label} ▾</summary>
      <ul>
        {items.map((item) => (
          <li key={item.name}>
            <button type="button" className="quiet" disabled={Boolean(item.off)} title={item.off ?? undefined} onClick={() => (item.act(), close())}>
              {item.name}
            </button>
            {item.off && <small>{item.off}</small>}
          </li>
        ))}
      </ul>
    </details>
  );
}
