/** Answers, made byte by byte: what a server could send, and what none should. */

const utf8 = new TextEncoder();

export function bytes(...parts: (Uint8Array | number[] | string)[]): Uint8Array<ArrayBuffer> {
  const pieces = parts.map((part) => (typeof part === "string" ? utf8.encode(part) : part));
  const whole = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

export function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
}

/** A field of a protobuf message that has a length. */
export function field(number: number, value: Uint8Array | string): Uint8Array<ArrayBuffer> {
  const data = bytes(value);
  return bytes(varint(number * 8 + 2), varint(data.length), data);
}

export function frame(payload: Uint8Array | string, flag = 0): Uint8Array<ArrayBuffer> {
  const data = bytes(payload);
  const head = new Uint8Array(5);
  head[0] = flag;
  new DataView(head.buffer).setUint32(1, data.length);
  return bytes(head, data);
}

/** One value in a message; or several, as a batch. */
export function message(...values: unknown[]): Uint8Array<ArrayBuffer> {
  return frame(bytes(...values.map((value, index) => field(index ? 4 : 2, JSON.stringify(value)))));
}

export const heartbeat = frame("");

export function trailer(status: number | string, lines: Record<string, string> = {}): Uint8Array<ArrayBuffer> {
  const all = Object.entries({ "grpc-status": `${status}`, ...lines });
  return frame(all.map(([name, value]) => `${name}: ${value}\r\n`).join(""), 0x80);
}

/** `grpc-status-details-bin` of a google.rpc.Status with these details: each a type's name and its bytes. */
export function details(...any: [string, Uint8Array][]): string {
  const packed = any.map(([type, value]) => field(3, bytes(field(1, `type.googleapis.com/${type}`), field(2, value))));
  return btoa(String.fromCharCode(...bytes([8, 5], field(2, "message"), ...packed)));
}

/** A body in these chunks, that ends, breaks or goes quiet after the last one. */
export function body(chunks: Uint8Array[], then: "ends" | "breaks" | "waits" = "ends"): ReadableStream<Uint8Array> {
  const rest = [...chunks];
  return new ReadableStream({
    pull(controller) {
      const chunk = rest.shift();
      if (chunk) controller.enqueue(chunk);
      else if (then === "ends") controller.close();
      else if (then === "breaks") controller.error(new TypeError("network error"));
      else return new Promise(() => {});
    },
  });
}

export const GRPC_WEB = { "content-type": "application/grpc-web+proto" };
