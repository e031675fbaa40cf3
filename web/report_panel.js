// XPU Report in the page: a panel that is there where an Intel GPU is, or after it was asked for.
// It uses what the frontends 1.23 (ComfyUI 0.3.47) and 1.48 (0.33.0) share. All it shows is set as
// text, never as HTML. Its texts come from /i18n: the frontend's translations are not open to packs.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const TAB = "comfyui-ipex.report";
const SETTING = "comfyui-ipex.ReportTab";
const GIB = 2 ** 30;

// The panel's texts lie in locales/<language>/main.json, where ComfyUI keeps those of its own.
async function readTexts() {
  const found = await (await api.fetchApi("/i18n")).json();
  const language = app.extensionManager.setting.get("Comfy.Locale");
  return { ...found.en?.ipexReport, ...found[language]?.ipexReport };
}

async function readReport(format) {
  const answer = await api.fetchApi(`/ipex/report?format=${format}`, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return format === "json" ? answer.json() : answer.text();
}

function make(tag, styles = {}, ...children) {
  const element = document.createElement(tag);
  Object.assign(element.style, styles);
  element.append(...children);
  return element;
}

const size = (bytes) => `${(bytes / GIB).toFixed(2)} GiB`;
const heading = (text) => make("h4", { margin: "1.2em 0 0.4em", fontWeight: "600" }, text);
const quiet = (...children) => make("div", { opacity: "0.75", fontSize: "0.9em" }, ...children);
const unreadable = (part, texts) => (part?.why === undefined ? "" : `${texts.unreadable}: ${part.why}`);

function bar(used, total) {
  const share = total > 0 ? Math.min(1, Math.max(0, used / total)) : 0;
  const fill = { width: `${100 * share}%`, height: "100%", background: "#2f7fd0" };
  const frame = { height: "8px", borderRadius: "4px", overflow: "hidden", margin: "4px 0" };
  return make("div", { ...frame, background: "rgba(128, 128, 128, 0.35)" }, make("div", fill));
}

function deviceBlock(device, texts) {
  const title = make("div", { fontWeight: "600" }, `${device.name}: ${device.label}`);
  const block = make("div", { margin: "0 0 0.9em" }, title);
  const { memory } = device;
  const why = unreadable(memory, texts);
  if (why) {
    block.append(quiet(why));
    return block;
  }
  const { total } = memory.reading;
  block.append(bar(total - memory.free.total, total));
  block.append(quiet(`${texts.free}: ${size(memory.free.total)} / ${size(total)}`));
  if (memory.driver_silent) block.append(quiet(memory.driver_silent));
  if (memory.allocation) {
    block.append(quiet(`${texts.largest}: ${size(memory.allocation.largest)}`));
  }
  return block;
}

function modelLines(loaded, texts) {
  const why = unreadable(loaded, texts);
  if (why) return [quiet(why)];
  if (!loaded.length) return [quiet(texts.none)];
  return loaded.map((model) =>
    quiet(`${model.device}: ${model.name} (${size(model.loaded)} / ${size(model.size)})`),
  );
}

function measuredLines(lines, texts) {
  return lines.length ? [heading(texts.measured), ...lines.map((line) => quiet(line))] : [];
}

// A worker is another process with cards of its own, which it tells about as this one does.
function workerBlocks({ name, kind, told }, texts) {
  const title = heading(`${texts.worker}: ${name} (${kind})`);
  const why = unreadable(told, texts);
  if (why) return [title, quiet(why)];
  const own = told.devices.filter((device) => device.name.startsWith(kind));
  const blocks = own.map((device) =>
    deviceBlock({ ...device, name: `${device.name}@${name}` }, texts),
  );
  return [title, ...blocks, ...modelLines(told.loaded, texts)];
}

function changeBlock(seam, texts) {
  const state = texts.states[seam.state] ?? seam.state;
  const detail = seam.detail ? `: ${seam.detail}` : "";
  const name = make("span", { fontWeight: "600" }, seam.seam);
  const block = make("div", { margin: "0 0 0.6em" }, name, ` - ${state}${detail}`);
  if (seam.state !== "not needed") block.append(quiet(`${texts.without}: ${seam.reason}`));
  return block;
}

function changeBlocks(seams, texts) {
  if (!seams) return [quiet(texts.unchanged)];
  const needed = seams.filter((seam) => seam.state !== "not needed");
  const others = seams.filter((seam) => seam.state === "not needed");
  const blocks = needed.map((seam) => changeBlock(seam, texts));
  if (others.length) {
    const summary = make("summary", { cursor: "pointer" }, `${texts.notNeeded}: ${others.length}`);
    blocks.push(make("details", {}, summary, ...others.map((seam) => changeBlock(seam, texts))));
  }
  return blocks;
}

// Without https, browsers keep the clipboard from pages of other machines; a selection serves.
async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not permitted: the other way is tried.
    }
  }
  const area = make("textarea", { position: "fixed", opacity: "0" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

function button(label, action) {
  const styles = { padding: "4px 10px", borderRadius: "6px", cursor: "pointer", color: "inherit" };
  const border = "1px solid rgba(128, 128, 128, 0.6)";
  const made = make("button", { ...styles, border, background: "transparent" }, label);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

function reportBody(report, texts) {
  const { primary } = report;
  const runsOn = typeof primary.answered === "string" ? primary.answered : primary.chosen;
  return [
    heading(texts.runsOn),
    quiet(`${runsOn}, ${primary.because}`),
    heading(texts.devices),
    ...report.devices.map((device) => deviceBlock(device, texts)),
    heading(texts.models),
    ...modelLines(report.loaded, texts),
    ...report.workers.flatMap((worker) => workerBlocks(worker, texts)),
    ...measuredLines(report.measured, texts),
    heading(texts.changes),
    ...changeBlocks(report.seams, texts),
  ];
}

async function fill(panel, texts) {
  const said = quiet();
  const body = make("div");
  const whole = make("pre", { whiteSpace: "pre-wrap", fontSize: "0.8em", userSelect: "text" });
  const read = async () => {
    said.textContent = texts.reading;
    try {
      const [report, text] = await Promise.all([readReport("json"), readReport("text")]);
      body.replaceChildren(...reportBody(report, texts));
      whole.textContent = text;
      said.textContent = `comfyui-ipex ${report.software.extension}`;
    } catch (error) {
      said.textContent = `${texts.unreadable}: ${error.message}`;
    }
  };
  const hand = async () => {
    said.textContent = (await copy(whole.textContent)) ? texts.copied : texts.refused;
  };
  const gap = { display: "flex", gap: "8px", margin: "0 0 8px", flexWrap: "wrap" };
  const buttons = make("div", gap, button(texts.copy, hand), button(texts.again, read));
  const details = make("details", {}, make("summary", { cursor: "pointer" }, texts.whole), whole);
  panel.replaceChildren(heading(texts.title), buttons, said, body, heading(""), details);
  await read();
}

async function addTab() {
  const texts = await readTexts();
  if (app.extensionManager.getSidebarTabs().some((tab) => tab.id === TAB)) return;
  app.extensionManager.registerSidebarTab({
    id: TAB,
    icon: "pi pi-microchip",
    title: texts.title,
    tooltip: texts.title,
    type: "custom",
    render(container) {
      const space = { padding: "8px 14px", height: "100%", overflowY: "auto", fontSize: "13px" };
      const panel = make("div", space);
      panel.className = "comfyui-ipex-report";
      container.replaceChildren(panel);
      fill(panel, texts);
    },
  });
}

async function open() {
  await addTab();
  const tabs = app.extensionManager.sidebarTab;
  if (tabs.activeSidebarTabId !== TAB) tabs.toggleSidebarTab(TAB);
}

async function hasIntelGpu() {
  const { devices, workers } = await readReport("json");
  const here = devices.some((device) => device.name.startsWith("xpu"));
  return here || workers.some((worker) => worker.kind === "xpu");
}

app.registerExtension({
  name: "comfyui-ipex.report-panel",
  commands: [
    { id: "comfyui-ipex.ShowReport", label: "XPU Report", icon: "pi pi-microchip", function: open },
  ],
  menuCommands: [{ path: ["Help"], commands: ["comfyui-ipex.ShowReport"] }],
  settings: [
    {
      id: SETTING,
      category: ["IPEX", "XPU Report", "ReportTab"],
      name: "XPU Report in the sidebar",
      tooltip: "Takes effect when the page is loaded again. Help > XPU Report opens it in any case.",
      type: "combo",
      defaultValue: "auto",
      options: [
        { text: "Where there is an Intel GPU", value: "auto" },
        { text: "Always", value: "always" },
        { text: "Never", value: "never" },
      ],
    },
  ],
  async setup() {
    const wish = app.extensionManager.setting.get(SETTING);
    if (wish === "always" || (wish !== "never" && (await hasIntelGpu()))) await addTab();
  },
});
