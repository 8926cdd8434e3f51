/** A sentence whose `code` is set as code. */
export const Words = ({ text }: { text: string }) => (
  <>{text.split("`").map((part, i) => (i % 2 ? <code key={i}>{part}</code> : <bdi key={i}>{part}</bdi>))}</>
);
