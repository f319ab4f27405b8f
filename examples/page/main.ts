// A chat that streams its answers, with a button that stops them; and a chart of the server's load as it changes.

import uPlot from "uplot";
import { CallError, connect } from "./client.ts";

const INTERVAL_SECONDS = 0.5;
const SHOWN_SECONDS = 60;
const RETRY_MS = 1000;

const chat = connect(""); // where this page is from

function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

// The chat

const messages = element<HTMLOListElement>("messages");
const question = element<HTMLInputElement>("question");
const send = element<HTMLButtonElement>("send");
let answering: AbortController | undefined;

element<HTMLFormElement>("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (answering) {
    answering.abort();
  } else {
    void answer(question.value || question.placeholder);
    question.value = "";
  }
});

async function answer(text: string): Promise<void> {
  const stop = answering = new AbortController();
  send.textContent = "Stop";
  send.className = "stop";
  say("question", text);
  const bubble = say("answer streaming", "");
  try {
    for await (const token of chat.ai_response(text, { signal: stop.signal })) {
      bubble.append(token);
      messages.scrollTop = messages.scrollHeight;
    }
  } catch (error) {
    note(bubble, error);
  } finally {
    bubble.classList.remove("streaming");
    answering = undefined;
    send.textContent = "Send";
    send.className = "";
  }
}

function say(kind: string, text: string): HTMLLIElement {
  const item = document.createElement("li");
  item.className = kind;
  item.textContent = text;
  messages.append(item);
  messages.scrollTop = messages.scrollHeight;
  return item;
}

/** Tell under an answer why it isn't whole. */
function note(bubble: HTMLElement, error: unknown): void {
  const told = document.createElement("small");
  const stopped = error instanceof CallError && error.code === "CANCELLED";
  told.textContent = stopped ? "stopped" : describe(error);
  told.classList.toggle("bad", !stopped);
  bubble.append(told);
  messages.scrollTop = messages.scrollHeight;
}

function describe(error: unknown): string {
  if (!(error instanceof CallError)) return String(error);
  const bad = error.violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
  return `${error.code}: ${bad || error.message}`;
}

// The chart

const state = element("state");
const pause = element<HTMLButtonElement>("pause");
const times: number[] = [];
const cpu: number[] = [];
const memory: number[] = [];
let watching: AbortController | undefined;

/** A colour of the style sheet, as a canvas understands it: it doesn't know light-dark(). */
function colour(name: string): () => string {
  return () => {
    state.style.outlineColor = `var(${name})`;
    return getComputedStyle(state).outlineColor;
  };
}

const time = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
const line = { width: 2, points: { show: false } };
const plot = element("chart");

const chart = new uPlot({
  width: plot.clientWidth,
  height: plot.clientHeight,
  cursor: { show: false },
  legend: { show: false },
  padding: [8, 8, 0, 0],
  scales: { x: { range: (_, __, latest) => [latest - SHOWN_SECONDS, latest] }, y: { range: [0, 100] } },
  axes: [
    { ...axis, size: 28, space: 90, values: (_, marks) => marks.map((mark) => time.format(mark * 1000)) },
    { ...axis, size: 50, values: (_, marks) => marks.map((mark) => `${mark}%`) },
  ],
  series: [{}, { ...line, stroke: colour("--cpu") }, { ...line, stroke: colour("--memory") }],
}, [times, cpu, memory], plot);

new ResizeObserver(() => {
  chart.setSize({ width: plot.clientWidth, height: plot.clientHeight });
}).observe(plot);

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { chart.redraw(); });

pause.addEventListener("click", () => {
  if (watching) watching.abort();
  else void watch();
});

async function watch(): Promise<void> {
  const stop = watching = new AbortController();
  pause.textContent = "Pause";
  while (watching === stop) {
    try {
      for await (const load of chat.system_load(INTERVAL_SECONDS, { signal: stop.signal })) {
        tell(`live, every ${INTERVAL_SECONDS} s`);
        times.push(Date.parse(load.at) / 1000);
        cpu.push(load.cpu_percent);
        memory.push(load.memory_percent);
        while (times[0]! < times.at(-1)! - SHOWN_SECONDS) [times, cpu, memory].forEach((list) => list.shift());
        element("cpu").textContent = `${load.cpu_percent.toFixed(1)} %`;
        element("memory").textContent = `${load.memory_percent.toFixed(1)} %`;
        chart.setData([times, cpu, memory]);
      }
    } catch (error) {
      if (stop.signal.aborted) {
        watching = undefined;
        pause.textContent = "Resume";
        tell("paused: the generator has ended");
        return;
      }
      tell(describe(error), true);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

function tell(text: string, bad = false): void {
  state.textContent = text;
  state.classList.toggle("bad", bad);
}

void watch();
question.focus();
