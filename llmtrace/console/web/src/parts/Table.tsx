import { useState, type ReactNode } from "react";
import { number } from "../read/text";
import css from "./Table.module.css";

export interface TableGiven {
  caption: string;
  columns: string[];
  rows: (string | number | null)[][];
  places?: number;
  pick?: (row: number) => void; // the place of the row as given
}

const SHOWN = 400;

export function Table({ caption, columns, rows, places = 4, pick }: TableGiven) {
  const [by, setBy] = useState<{ column: number; down: boolean } | null>(null);
  const order = rows.map((_, i) => i);
  if (by)
    order.sort((i, j) => {
      const [x, y] = [rows[i]?.[by.column] ?? null, rows[j]?.[by.column] ?? null];
      const less = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
      return by.down ? -less : less;
    });
  const cell = (value: string | number | null): ReactNode =>
    typeof value === "number" ? (Number.isInteger(value) ? String(value) : number(value, places)) : value === null ? "–" : <bdi>{value}</bdi>;
  return (
    <div className={css.scroll} tabIndex={0} role="region" aria-label={caption}>
      <table>
        <caption className={css.caption}>
          {caption}
          {rows.length > SHOWN && ` The first ${SHOWN} of ${rows.length} rows are shown; Save, JSON data holds all.`}
        </caption>
        <thead>
          <tr>
            {columns.map((name, column) => (
              <th key={name} scope="col" aria-sort={by?.column === column ? (by.down ? "descending" : "ascending") : "none"}>
                <button type="button" className="quiet" onClick={() => setBy({ column, down: by?.column === column ? !by.down : true })}>
                  {name}
                  {by?.column === column ? (by.down ? " ↓" : " ↑") : ""}
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {order.slice(0, SHOWN).map((i) => (
            <tr key={i}>
              {(rows[i] ?? []).map((value, column) => (
                <td key={column} className={typeof value === "number" ? css.number : undefined} title={typeof value === "number" ? String(value) : undefined}>
                  {pick && column === 0 ? (
                    <button type="button" className="link" onClick={() => pick(i)}>
                      {cell(value)}
                    </button>
                  ) : (
                    cell(value)
                  )}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
