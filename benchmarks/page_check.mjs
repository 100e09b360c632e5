// Uses the page of a running service as people do, in a browser: searches by keyboard, at a level, and under load.
//
//   elastic-ir serve --port 8080 &
//   npm install --prefix TOOLS playwright-core axe-core
//   NODE_PATH=TOOLS/node_modules node benchmarks/page_check.mjs http://127.0.0.1:8080/ QUESTION PICTURE.png [/usr/bin/chromium]
//
// Exits with 1 on a request to anywhere else, a console error, a page wider than the window, a serious or critical axe
// finding, a search without results, or no banner under load.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.NODE_PATH ?? "node_modules", "any.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [url, question, picture, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
const PATIENCE = { timeout: 30_000 }, CLIENTS = 24;
const args = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-gpu"];
const problems = [];

const browser = await chromium.launch({ executablePath, args, chromiumSandbox: false });

async function opened(width, height, colorScheme) {
  const context = await browser.newContext({ colorScheme, viewport: { width, height } });
  const page = await context.newPage();
  page.on("request", (request) => request.url().startsWith(url) || request.url().startsWith("data:") || problems.push(`request to ${request.url()}`));
  page.on("console", (message) => message.type() === "error" && !/50[34]/.test(message.text()) && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(`error in the page: ${error.message}`));
  await page.goto(url);
  return page;
}

async function looked(page, name) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (over > 0) problems.push(`${name}: the page is ${over} px wider than the window`);
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run(document));
  const told = found.violations.map((v) => `${v.impact} ${v.id}: ${v.nodes[0].html.slice(0, 120)}`);
  console.log(`${name}: axe passed ${found.passes.length} rules, ${told.length} violations`, told);
  problems.push(...told.filter((line) => /^(serious|critical)/.test(line)));
}

async function searched(page) {
  const answered = page.waitForResponse((response) => response.url().endsWith("/v1/search"), PATIENCE);
  await page.keyboard.press("Enter");
  const response = await answered;
  await page.waitForFunction(() => !document.getElementById("status").textContent.startsWith("searching"), undefined, PATIENCE);
  return response.status();
}

const page = await opened(1200, 900, "light");
await page.waitForFunction(() => document.getElementById("level").options.length > 1, undefined, PATIENCE);
if (await page.locator("#token").isVisible()) problems.push("a token is asked for where none is needed");
if (!(await page.evaluate(() => document.activeElement.id === "query"))) problems.push("the search box has not the focus");
await page.keyboard.type(question);
await searched(page);
const hits = page.locator("#hits li"), status = page.locator("#status");
console.log(`by load: ${await hits.count()} hits; ${await status.textContent()}`);
if (!(await hits.count())) problems.push("a search found nothing");
if (!(await page.locator("#hits mark").count())) problems.push("no term is highlighted");
await looked(page, "light wide");

const levels = await page.locator("#level option").evaluateAll((options) => options.map((option) => option.value));
await page.locator("#level").selectOption(levels.at(-1));
await page.locator("#query").focus();
await searched(page);
if (!(await status.textContent()).includes(`level ${levels.at(-1)}`)) problems.push("the level asked for did not answer");
console.log(`asked for: ${await status.textContent()}`);
await page.locator("#level").selectOption("");

let loading = true, sent = 0;
const clients = Array.from({ length: CLIENTS }, async () => {
  while (loading) {
    sent += 1;
    await fetch(`${url}v1/search`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ query: `${question} ${sent}` }) })
      .then((response) => response.text());
  }
});
await new Promise((done) => setTimeout(done, 8000));
const banner = page.locator("#degraded");
await page.locator("#query").focus();
for (let tries = 0; tries < 20 && !(await banner.isVisible()); tries += 1) await searched(page);
if (await banner.isVisible()) console.log(`under load of ${CLIENTS} clients: ${await banner.textContent()}`);
else problems.push("no banner under load");
await new Promise((done) => setTimeout(done, 2000));
await looked(page, "light wide, under load");
await page.screenshot({ path: picture });
loading = false;
await Promise.all(clients);

for (const [name, width, height, colorScheme] of [["dark wide", 1200, 900, "dark"], ["dark narrow", 390, 844, "dark"]]) {
  const other = await opened(width, height, colorScheme);
  await other.keyboard.type(question);
  await searched(other);
  await looked(other, name);
  if (!(await other.locator("#hits li").count())) problems.push(`${name}: a search found nothing`);
}
await browser.close();
console.log(problems.length ? problems : "searched, degraded and looked at without a finding");
process.exit(problems.length ? 1 : 0);
