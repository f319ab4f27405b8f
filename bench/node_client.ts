/** The generated client under load. Arguments: a URL, a text. A line of stdin is a command, one of stdout its answer. */

import { createInterface } from "node:readline";
// @ts-expect-error it is made for each run
import { connect } from "generated";

const [url, text] = process.argv.slice(2) as [string, string];
const client = connect(url);

/** What the steps of so many workers do in a second. A step that has begun is finished. */
async function rate(step: () => Promise<number>, workers: number, seconds: number): Promise<[number, number]> {
  const start = performance.now();
  let done = 0;
  await Promise.all(Array.from({ length: workers }, async () => {
    while (performance.now() < start + seconds * 1000) {
      const more = await step();
      done += more; // not in one: what others have counted meanwhile would be lost
    }
  }));
  return [done, done / (performance.now() - start) * 1000];
}

const commands: Record<string, (...values: never[]) => unknown> = {
  usage() {
    const { user, system } = process.cpuUsage();
    return [(user + system) / 1e6, process.memoryUsage.rss()];
  },

  unary: (inFlight: number, seconds: number) => rate(async () => {
    await client.reply(text, 1);
    return 1;
  }, inFlight, seconds),

  stream: (name: string, streams: number, items: number, seconds: number) => rate(async () => {
    let done = 0;
    for await (const _ of client[name](text, items)) done += 1;
    if (done !== items) throw new Error(`${done} of ${items} items came`);
    return done;
  }, streams, seconds),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...values] = JSON.parse(line) as [string, ...never[]];
  console.log(JSON.stringify(await commands[command]!(...values)));
}
