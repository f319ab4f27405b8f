/** The runtime in Node: arguments are a URL and a key. Prints JSON. Needs --expose-gc. */

import { CallError, createTransport } from "../../ephaptic_grpc/codegen/typescript/runtime.ts";

const [url, key] = process.argv.slice(2) as [string, string];
const transport = createTransport(url);
const path = "/web.v1.WebService/";

const sum = await transport.unary<number>(`${path}Add`, [2, 3]);
const stop = new AbortController();
const items: number[] = [];
let ended = "";
try {
  for await (const item of transport.stream<number>(`${path}Forever`, { key }, { signal: stop.signal })) {
    items.push(item);
    // What only the garbage collector would notice must not keep a stream alive.
    (globalThis as { gc?: () => void }).gc!();
    if (item === 5) setTimeout(() => { stop.abort(); }, 20);
  }
} catch (error) {
  ended = (error as CallError).code;
}
console.log(JSON.stringify({ sum, first: items.slice(0, 6), ended }));
