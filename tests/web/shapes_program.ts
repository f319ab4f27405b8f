/** Every kind of value there and back, by the generated client in Node. Argument: a URL. Prints JSON. */

import { connect, type EverythingInput } from "../golden/shapes_client.ts";

const shapes = connect(process.argv[2]!);
const given = JSON.parse(process.argv[3]!) as EverythingInput;

const items = async <T>(stream: AsyncIterable<T>) => {
  const all: T[] = [];
  for await (const item of stream) all.push(item);
  return all;
};

console.log(JSON.stringify({
  echo: await shapes.echo(given),
  trees: await items(shapes.trees({ value: 7 }, 2)),
  find: await shapes.find("x", [1, "y"], [2, 3]),
  pets: await items(shapes.pets("red", { limit: 1 })),
  list: await shapes.list(undefined, 2),
  login: await shapes.login("me", undefined, { favourite: { name: "Alien" } }),
  nothing: await shapes.nothing(),
  stale: await shapes.list("one" as unknown as number).catch((error: unknown) => (error as Error).message),
}));
