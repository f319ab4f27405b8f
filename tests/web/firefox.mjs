// The page of the tests in Firefox. Prints JSON.
// Arguments: where Firefox is, the page's URL, the functions' URL, how many streams to open at the same time.
import puppeteer from "puppeteer-core";

const [executablePath, page, url, streams] = process.argv.slice(2);
const browser = await puppeteer.launch({ browser: "firefox", executablePath, acceptInsecureCerts: true });
try {
  const tab = await browser.newPage();
  await tab.goto(page);
  await tab.waitForFunction("window.ours");
  const run = (script) => tab.evaluate(script, url);
  console.log(JSON.stringify({
    add: await run((url) => ours.unary(url, "Add", [2, 3])),
    count: await run((url) => ours.stream(url, "Count", { to: 5, seconds: 0.15 })),
    failing: await run((url) => ours.stream(url, "FailAfter", [2])),
    fish: await run((url) => ours.unary(url, "Place", { order: { item: "fish" } })),
    deadline: await run((url) => ours.unary(url, "Sleep", { seconds: 30 }, { timeoutMs: 300 })),
    many: await tab.evaluate((url, count) => ours.many(url, count), url, Number(streams)),
    left: await run((url) => ours.leave(url, "firefox", "break")),
    stopped: await run((url) => ours.leave(url, "firefox stop", "stop")),
    version: await browser.version(),
  }));
} finally {
  await browser.close();
}
