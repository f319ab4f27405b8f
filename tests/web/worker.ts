/** The runtime in a web worker. */

import { createTransport } from "../../ephaptic_grpc/codegen/typescript/runtime.ts";

self.onmessage = async (event: MessageEvent<string>) => {
  const items: number[] = [];
  for await (const item of createTransport(event.data).stream<number>("/web.v1.WebService/Count", { to: 3 })) items.push(item);
  self.postMessage(items);
};
