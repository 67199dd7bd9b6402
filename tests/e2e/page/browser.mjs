/** Owns a headless Chromium for the tests: each line of input is a call as JSON, each line of output its result. */

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const AXE = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const ARGUMENTS = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--enable-precise-memory-info"];

const browser = await chromium.launch({ executablePath: process.argv[2], args: ARGUMENTS });
let page;
let troubles = [];

const calls = {
  /** A new window; `bypassCSP` is for the checker's own script alone. */
  async open({ url, width, height, scheme, bypassCSP = false }) {
    await page?.context().close();
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, bypassCSP });
    page = await context.newPage();
    troubles = [];
    page.on("pageerror", (error) => troubles.push(String(error)));
    page.on("console", (message) => message.type() === "error" && troubles.push(message.text()));
    await page.goto(url);
  },
  troubles: async () => troubles.splice(0),
  click: ({ on }) => page.click(on),
  press: ({ keys }) => page.keyboard.press(keys),
  fill: ({ on, text }) => page.fill(on, text),
  select: ({ on, value }) => page.selectOption(on, value),
  text: ({ of }) => page.locator(of).first().innerText(),
  texts: ({ of }) => page.locator(of).allInnerTexts(),
  count: ({ of }) => page.locator(of).count(),
  see: ({ on, timeout_ms = 15_000 }) => page.waitForSelector(on, { timeout: timeout_ms }).then(() => true),
  /** Asked from outside: the page's own policy lets nothing be evaluated within it. */
  async until({ script, timeout_ms = 15_000 }) {
    const end = performance.now() + timeout_ms;
    while (!(await page.evaluate(script))) {
      if (performance.now() > end) throw new Error(`not within ${timeout_ms} ms: ${script}`);
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
    return true;
  },
  run: ({ script }) => page.evaluate(script),
  offline: ({ on }) => page.context().setOffline(on),
  screenshot: ({ path, full = true }) => page.screenshot({ path, fullPage: full }).then(() => true),
  url: async () => page.url(),
  async axe() {
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => axe.run());
    return violations.map(({ id, nodes }) => `${id}: ${nodes[0].target.join(" ")}: ${nodes[0].failureSummary}`);
  },
};

console.log(JSON.stringify({ result: "ready" }));
for await (const line of createInterface({ input: process.stdin })) {
  const { call, ...given } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ result: (await calls[call](given)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
await browser.close();
