import { useMemo, useSyncExternalStore } from "react";
import { useStore } from "../state/store";
import { inkOf, type Ink } from "./ink";

const query = () => matchMedia("(prefers-color-scheme: dark)");
const wideQuery = () => matchMedia("(min-width: 2200px)");
const widestQuery = () => matchMedia("(min-width: 3200px)");

function useMedia(make: () => MediaQueryList): boolean {
  return useSyncExternalStore(
    (listener) => {
      const media = make();
      media.addEventListener("change", listener);
      return () => media.removeEventListener("change", listener);
    },
    () => make().matches,
  );
}

export function useDark(): boolean {
  const theme = useStore((s) => s.theme);
  const system = useMedia(query);
  return theme === "auto" ? system : theme === "dark";
}

export function useInk(): Ink {
  const dark = useDark();
  const [large, largest] = [useMedia(wideQuery), useMedia(widestQuery)];
  return useMemo(() => inkOf(dark, largest ? 17 : large ? 13 : 11), [dark, large, largest]);
}
