import { useEffect, useRef, type ReactNode } from "react";
import { dispatch } from "../state/store";
import css from "./Dialog.module.css";

export const closeDialog = (): void => dispatch({ do: "set", part: { dialog: null } });

export function Dialog({ title, children }: { title: string; children: ReactNode }) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    box.current?.showModal();
  }, []);
  return (
    <dialog ref={box} className={css.dialog} aria-label={title} onClose={closeDialog} onClick={(event) => event.target === event.currentTarget && closeDialog()}>
      <header>
        <h2>{title}</h2>
        <button type="button" className="quiet" onClick={closeDialog}>Close</button>
      </header>
      {children}
    </dialog>
  );
}
