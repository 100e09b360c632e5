// Looks at a report in a browser without a network: axe findings, requests, console errors, pictures, a print.
//
//   npm install --prefix TOOLS playwright-core axe-core
//   NODE_PATH=TOOLS/node_modules node benchmarks/report_check.mjs report.html OUTPUT [/usr/bin/chromium]
//
// Exits with 1 on a request to anywhere, a console error, a page wider than the window, or a serious or critical finding.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.env.NODE_PATH ?? "node_modules", "any.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [report, output, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
const page_url = pathToFileURL(resolve(report)).href;
const WINDOWS = { wide: [1200, 900], narrow: [390, 844] };
const args = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

mkdirSync(output, { recursive: true });
const browser = await chromium.launch({ executablePath, args: [...args, "--disable-gpu"], chromiumSandbox: false });
const problems = [];
for (const colorScheme of ["light", "dark"]) {
  for (const [name, [width, height]] of Object.entries(WINDOWS)) {
    const context = await browser.newContext({ colorScheme, viewport: { width, height }, offline: true });
    const page = await context.newPage();
    page.on("request", (request) => request.url() !== page_url && problems.push(`request to ${request.url()}`));
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    await page.goto(page_url);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (over > 0) problems.push(`${name}: the page is ${over} px wider than the window`);
    await page.screenshot({ path: join(output, `${colorScheme}-${name}.png`) });
    await page.screenshot({ path: join(output, `${colorScheme}-${name}-whole.png`), fullPage: true });
    const costs = page.getByRole("heading", { name: "Quality against cost" }).first();
    if (await costs.count()) {
      await costs.evaluate((heading) => heading.scrollIntoView());
      await page.screenshot({ path: join(output, `${colorScheme}-${name}-costs.png`) });
    }
    await page.evaluate(axe);
    const found = await page.evaluate(() => axe.run(document));
    const told = found.violations.map((v) => `${v.impact} ${v.id} (${v.nodes.length}): ${v.nodes[0].html.slice(0, 120)}`);
    console.log(`${colorScheme} ${name}: axe passed ${found.passes.length} rules, ${told.length} violations`, told);
    problems.push(...told.filter((line) => /^(serious|critical)/.test(line)));
    if (colorScheme === "light" && name === "wide") await page.pdf({ path: join(output, "print.pdf"), format: "A4" });
    await context.close();
  }
}
await browser.close();
console.log(problems.length ? problems : "no request, no console error, no serious or critical finding");
process.exit(problems.length ? 1 : 0);
