// Opens a page in Chromium as its readers do, and prints what they meet as JSON.
// node page_in_chromium.mjs PAGE CHROMIUM NODE_MODULES
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [page, executablePath, modules] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"], protocolTimeout: 300_000 });
const tab = await browser.newPage();
tab.setDefaultTimeout(300_000);
const found = { errors: [], requests: [], views: [] };
tab.on("pageerror", (error) => found.errors.push(error.message));
tab.on("request", (request) => { if (!/^(file|data):/.test(request.url())) found.requests.push(request.url()); });
const waited = () => tab.evaluate(() => new Promise((done) => setTimeout(done, 100)));
const axeFinds = () => tab.evaluate(async (tags) => (await axe.run({ runOnly: tags })).violations.map((each) => `${each.id}: ${each.nodes[0].html.slice(0, 200)}`), rules);

for (const [width, scheme] of [[1280, "light"], [390, "dark"]]) {
  await tab.setViewport({ width, height: 900 });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await tab.goto(`file://${page}`);
  await waited();
  await tab.evaluate(axe);
  const view = { width, scheme, wide: await tab.evaluate(() => document.documentElement.scrollWidth) };
  view.closed = await axeFinds();
  await tab.focus("#summary a[data-ref]");
  await tab.keyboard.press("Enter");
  await waited();
  view.opened = await tab.evaluate(() => {
    const target = document.querySelector(":target");
    const box = target.getBoundingClientRect();
    return { hash: location.hash, focused: document.activeElement === target, inside: box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight };
  });
  view.open = await axeFinds();
  await tab.keyboard.press("Escape");
  await waited();
  view.returned = await tab.evaluate(() => document.activeElement.matches("#summary a[data-ref]"));
  found.views.push(view);
}

const column = (place) => tab.evaluate((at) => [...document.querySelectorAll("table.summary tbody tr")].filter((row) => !row.hidden).map((row) => row.cells[at].dataset.value ?? row.cells[at].textContent.trim()), place);
const claimed = "table.summary thead th:nth-child(2)";
await tab.evaluate((head) => document.querySelector(`${head} button`).click(), claimed);
found.rising = await column(1);
await tab.evaluate((head) => document.querySelector(`${head} button`).click(), claimed);
found.falling = await column(1);
found.sorted = await tab.evaluate((head) => document.querySelector(head).getAttribute("aria-sort"), claimed);
await tab.type(".filter input", "softmax");
found.filtered = await column(0);
found.count = await tab.evaluate(() => document.querySelector(".filter output").textContent);
const media = await tab.createCDPSession();
await media.send("Emulation.setEmulatedMedia", { media: "print", features: [{ name: "prefers-color-scheme", value: "dark" }] });
found.print = await tab.evaluate(() => ({
  evidence: [...document.querySelectorAll("article.evidence")].every((each) => each.checkVisibility()),
  controls: [...document.querySelectorAll("nav, .filter, .close, .anchor")].some((each) => each.checkVisibility()),
  background: getComputedStyle(document.body).backgroundColor,
  drawings: [...new Set([...document.querySelectorAll("figure svg")].map((each) => getComputedStyle(each).color))],
}));
await browser.close();
console.log(JSON.stringify(found));
