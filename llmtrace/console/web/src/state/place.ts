/** A head, an MLP or a neuron by the name that files carry: a3.h2, m2, m2.n5. */
export interface Place {
  layer: number;
  head: number | null; // null: the MLP
}

export function parsePlace(name: string): Place | null {
  const head = /^a(\d+)\.h(\d+)$/.exec(name);
  if (head) return { layer: Number(head[1]), head: Number(head[2]) };
  const mlp = /^m(\d+)(?:\.n\d+)?$/.exec(name);
  return mlp ? { layer: Number(mlp[1]), head: null } : null;
}

export const nameOf = (place: Place): string => (place.head === null ? `m${place.layer}` : `a${place.layer}.h${place.head}`);

/** As a person says it: head 3.2, MLP 2. */
export const said = (place: Place): string => (place.head === null ? `MLP ${place.layer}` : `head ${place.layer}.${place.head}`);

export const same = (a: Place | null, b: Place | null): boolean => a?.layer === b?.layer && a?.head === b?.head;
